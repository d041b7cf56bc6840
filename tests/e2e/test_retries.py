"""What reaches a provider that only fails, behind the official SDK with its own retries."""

from __future__ import annotations

from pathlib import Path

import pytest

from rigs.retries import BIN_SHARE_MAX, attempts_max, run

CALLS, PER_SECOND = 200, 100.0
FLOOR_PER_SECOND = 2.0


@pytest.mark.prove
def test_sdk_and_gateway_together_ask_a_failing_provider_a_fifth_more(tmp_path: Path) -> None:
    storm = run(
        tmp_path,
        CALLS,
        PER_SECOND,
        breaker_failures=0,
        retry_budget_floor_per_second=FLOOR_PER_SECOND,
    )
    assert storm.refusals == {(503, "false"): CALLS}
    assert 1.05 * CALLS < storm.attempts <= attempts_max(storm, FLOOR_PER_SECOND)


def test_open_breaker_spares_the_provider_and_the_sdk_its_retries(tmp_path: Path) -> None:
    storm = run(tmp_path, CALLS, PER_SECOND, breaker_open_seconds=60)
    assert storm.refusals == {(503, "false"): CALLS}
    assert 5 <= storm.attempts < CALLS / 2, "those that were under way when it opened"


@pytest.mark.prove
def test_retries_are_spread_over_time(tmp_path: Path) -> None:
    """No tenth of a second has a fifth of all retries."""
    storm = run(
        tmp_path, CALLS, PER_SECOND, breaker_failures=0, retry_budget_floor_per_second=10_000
    )
    assert storm.attempts == 3 * CALLS
    assert storm.fullest_bin_share <= BIN_SHARE_MAX
