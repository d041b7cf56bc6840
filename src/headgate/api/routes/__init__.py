"""The operations of the API, a module for each kind of object."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.api.operation import Operations
from headgate.api.routes import (
    audit,
    connections,
    credentials,
    keys,
    managed_models,
    projects,
    providers,
    secrets,
    vault,
)

ALL: Sequence[Operations] = (
    projects.OPERATIONS,
    keys.OPERATIONS,
    credentials.OPERATIONS,
    secrets.OPERATIONS,
    connections.OPERATIONS,
    providers.OPERATIONS,
    managed_models.OPERATIONS,
    vault.OPERATIONS,
    audit.OPERATIONS,
)
"""Every operation that is served, described and tested."""
