"""A locked database, a reader that never ends, and backups: the quick forms of D2, D3 and D8."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from rigs.torture import storage
from rigs.torture.harness import Result


def report(text: str) -> None:
    print(text)  # noqa: T201 - shown where it fails


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", [storage.lock_database, storage.keep_reading, storage.back_up])
def test_database_that_others_use_loses_no_answer(
    part: Callable[..., Coroutine[Any, Any, Result]],
) -> None:
    assert asyncio.run(part(size=storage.QUICK, seed=4600, report=report)).findings == []
