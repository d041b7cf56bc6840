"""Whose assets and handles they are."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Owner(Protocol):
    """Name the project that something belongs to."""

    @property
    def organization_id(self) -> str: ...

    @property
    def project_id(self) -> str: ...


class ProjectOwner(msgspec.Struct, frozen=True):
    """Implement `Owner`."""

    organization_id: str
    project_id: str
