"""The verdict on what is left after failures can fail."""

from __future__ import annotations

import json

import pytest

from rigs.torture.attempts import Attempt, AttemptLog, Outcome
from rigs.torture.mixed import judge_rest
from rigs.torture.spending import Priced

PRICED = Priced("000100/100", 1_000)


def make_outcome(status: int, key: str = "budget.project") -> Outcome:
    denial = {"key": key, "needed": "0.000001", "available": "0.0000009"}
    error = {"error": {"code": "budget_exceeded", "denial": denial}}
    return Outcome(Attempt(), status, body=json.dumps(error).encode())


@pytest.mark.parametrize(
    ("outcome", "left_nano", "verdicts"),
    [
        (make_outcome(402), {"project": 900}, []),
        (make_outcome(402), {"project": 1_000}, ["L9"]),
        (make_outcome(402, "wallet"), {"wallet": 5_000}, ["L9"]),
        (make_outcome(503), {"project": 900}, ["L1"]),
    ],
)
def test_refusal_of_a_limit_that_covers_the_call_is_found(
    outcome: Outcome, left_nano: dict[str, int], verdicts: list[str]
) -> None:
    log = AttemptLog()
    log.add(outcome)
    assert [each.verdict for each in judge_rest(log, left_nano, PRICED)] == verdicts
