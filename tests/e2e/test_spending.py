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
@pytest.mark.parametrize("kind", PLACES)
def test_wallet_pays_exactly_the_calls_that_it_covers_however_many_are_attempted(kind: str) -> None:
    result = asyncio.run(spending.spend_exactly(kind, size=spending.QUICK, report=report))
    assert result.findings == []
