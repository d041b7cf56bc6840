"""One clock for every wait of the edge: each connection has a deadline, one timer looks at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol


class Deadlined(Protocol):
    """Something that may wait only so long. `deadline` is in loop time, 0.0 when none runs."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed."""
        ...


class Sweeper:
    """Expires what is overdue, at most `period_seconds` late."""

    def __init__(self, members: Iterable[Deadlined], *, period_seconds: float = 0.25) -> None:
        self._members = members
        self._period_seconds = period_seconds

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._period_seconds)
            now = loop.time()
            for member in [each for each in self._members if 0.0 < each.deadline < now]:
                member.expire()
