"""What is loaded when it is first used: a large library, and what is built on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LazyLoader(Generic[Value]):
    """Load a value at its first use, once, in a thread beside the event loop. Whoever asks
    meanwhile waits for it. A failure is raised and not kept: the next use tries again."""

    def __init__(self, load: Callable[[], Value]) -> None:
        self._load = load
        self._loading = asyncio.Lock()
        self._loaded: Value | None = None

    async def get(self) -> Value:
        """Return the value. Raise whatever `load` raises."""
        if self._loaded is None:
            async with self._loading:
                if self._loaded is None:
                    self._loaded = await asyncio.to_thread(self._load)
        return self._loaded
