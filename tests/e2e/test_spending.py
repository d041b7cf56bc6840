"""Many workers spend one wallet at once: the quick form of the S parts of `make torture`."""

from __future__ import annotations

import asyncio

import pytest

from rigs.torture import spending
from rigs.torture.servers import PLACES


def report(text: str) -> None:
    print(text)  # noqa: T201 - shown where it fails


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize("limits", [("wallet",), ("key",), ("project",), spending.LIMITS])
@pytest.mark.parametrize("kind", PLACES)
def test_limit_lets_through_exactly_the_calls_that_it_covers_however_many_are_attempted(
    kind: str, limits: tuple[str, ...]
) -> None:
    result = asyncio.run(spending.spend_exactly(kind, limits, size=spending.QUICK, report=report))
    assert result.findings == []
