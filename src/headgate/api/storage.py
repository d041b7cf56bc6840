"""The database as the platform API sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import sqlalchemy as sa

Result = TypeVar("Result")


class Storage(Protocol):
    """The database, off the event loop."""

    async def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Run a function that only reads."""
        ...

    async def write(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Run a function in a transaction; when this returns, it is committed and in force in
        this process. It shares the one writer: no network in it, and nothing that takes long."""
        ...
