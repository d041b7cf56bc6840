"""Calls that are repeated with one idempotency key across kills: the quick form of K3."""

from __future__ import annotations

import asyncio

import pytest

from rigs.torture import repeated


def report(text: str) -> None:
    print(text)  # noqa: T201 - shown where it fails


@pytest.mark.prove
@pytest.mark.timeout(120)
def test_key_is_billed_once_and_has_one_answer_however_often_the_server_is_killed() -> None:
    result = asyncio.run(
        repeated.repeat_across_kills(
            keys=100, workers=24, seed=4600, report=report, wait_seconds=(0.1, 0.6)
        )
    )
    assert result.findings == []
    assert not result.figures.startswith("0 kills")
