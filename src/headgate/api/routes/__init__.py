"""The operations of the API, a module for each kind of object."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.api.operation import Operations
from headgate.api.routes import (
    audit,
    connections,
    credentials,
    integrations,
    keys,
    llms,
    managed_models,
    prices,
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
    integrations.OPERATIONS,
    llms.OPERATIONS,
    prices.OPERATIONS,
    managed_models.OPERATIONS,
    vault.OPERATIONS,
    audit.OPERATIONS,
)
"""Every operation that is served, described and tested."""
