"""A large library is loaded once, at its first use."""

from __future__ import annotations

import asyncio
import threading

import pytest

from headgate.kit.lazy import LazyLoader

pytestmark = pytest.mark.anyio


async def test_value_is_loaded_once_and_beside_the_loop() -> None:
    threads: list[threading.Thread] = []

    def load() -> list[int]:
        threads.append(threading.current_thread())
        return [1]

    loader = LazyLoader(load)
    assert threads == []
    first, *others = await asyncio.gather(*(loader.get() for _ in range(5)))
    assert all(each is first for each in others)
    assert await loader.get() is first
    [thread] = threads
    assert thread is not threading.main_thread()


async def test_failure_is_not_kept() -> None:
    answers = iter([OSError("too many open files"), 7])

    def load() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    loader = LazyLoader(load)
    with pytest.raises(OSError, match="too many open files"):
        await loader.get()
    assert await loader.get() == 7
