"""The operations of the API, a module for each kind of object."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.api.operation import Operations
from headgate.api.routes import audit, keys, managed_models, projects

ALL: Sequence[Operations] = (
    projects.OPERATIONS,
    keys.OPERATIONS,
    audit.OPERATIONS,
    managed_models.OPERATIONS,
)
"""Every operation that is served, described and tested."""
