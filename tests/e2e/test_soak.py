"""The quick form of `make soak`: after thousands of mixed calls nothing is left over."""

from __future__ import annotations

import pytest
import uvloop

from rigs.soak.run import SoakPlan, SoakResult, soak

GROWTH_MIB_MAX = 8.0
PLAN = SoakPlan(calls=3_000, keys=1_000, connections=32, every=500, warm_share=0.3)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SoakResult:
    return uvloop.run(soak(PLAN, tmp_path_factory.mktemp("soak"), lambda _: None))


@pytest.mark.prove
def test_every_call_has_its_own_answer_and_one_receipt(result: SoakResult) -> None:
    assert result.tally.shown == []
    assert (result.tally.done, result.tally.wrong) == (PLAN.calls, 0)
    assert result.ledger_state.receipts == PLAN.calls
    assert result.ledger_state.faults == []
    assert result.ledger_state.holds_open == 0
    assert result.alarms == []
    assert len(result.tally.calls_by_fault) == 9, "every way to go wrong was gone"


@pytest.mark.prove
def test_nothing_is_left_open(result: SoakResult) -> None:
    open_ended = {
        finding.name: finding.shown
        for finding in result.judge()
        if finding.bar == "+-5" and not finding.passes
    }
    assert open_ended == {}
    assert result.idle.counts["provider_connections"] == 0
    assert result.end.counts["client_connections"] <= 1, "the one that asks for the metrics"


@pytest.mark.prove
def test_memory_does_not_grow_with_calls(result: SoakResult) -> None:
    assert result.end.resident - result.idle.resident <= GROWTH_MIB_MAX
