"""Each verdict of the rig of spending can fail."""

from __future__ import annotations

import json

import pytest

from rigs.torture.attempts import Attempt, AttemptLog, Outcome
from rigs.torture.oracle import Answer
from rigs.torture.spending import Size, judge_exact, judge_refusals

SIZE = Size(calls=2, attempts=5)


def make_refusal(key: str, needed: str, available: str) -> Outcome:
    denial = {"key": key, "needed": needed, "available": available}
    error = {"error": {"code": "budget_exceeded", "denial": denial}}
    return Outcome(Attempt(), 402, body=json.dumps(error).encode())


def make_log(*statuses: int) -> AttemptLog:
    log = AttemptLog()
    for number, status in enumerate(statuses):
        answer = Answer(f"req_{number}", f"answer_{number}") if status == 200 else None
        body = json.dumps({"error": {"code": "insufficient_funds"}}).encode()
        log.add(Outcome(Attempt(), status, answer, b"" if answer else body))
    return log


def test_wallet_that_is_spent_exactly_has_no_findings() -> None:
    assert judge_exact(make_log(200, 402, 200, 402, 402), SIZE, 0, "here") == []


@pytest.mark.parametrize(
    ("statuses", "balance_nano", "verdicts"),
    [
        ((200, 200, 200, 402, 402), 0, ["L9"]),
        ((200, 402, 402, 402, 402), 5, ["L9", "L9"]),
        ((200, 200, 402, 402, 402), -5, ["L9"]),
        ((200, 200, 402, 402, 503), 0, ["L1"]),
        ((200, 200, 402, 402, 0), 0, ["L1"]),
        ((200, 200, 402, 402), 0, ["L1"]),
    ],
)
def test_wallet_that_is_not_spent_exactly_is_found(
    statuses: tuple[int, ...], balance_nano: int, verdicts: list[str]
) -> None:
    found = judge_exact(make_log(*statuses), SIZE, balance_nano, "here")
    assert [each.verdict for each in found] == verdicts


def test_bodies_of_attempts_have_one_length_so_that_they_hold_alike() -> None:
    attempts = [Attempt(), Attempt(streamed=True), Attempt(usage="123456/100", fails="part")]
    assert len({len(each.render("key").partition(b"\r\n\r\n")[2]) for each in attempts}) == 1


@pytest.mark.parametrize(
    ("refusal", "verdicts"),
    [
        (make_refusal("budget.key", "0.002", "0.001"), []),
        (make_refusal("wallet", "0.002", "0.001"), ["B4"]),
        (make_refusal("budget.key", "0.0010", "0.001"), ["B4"]),
    ],
)
def test_refusal_that_names_another_limit_or_one_with_room_is_found(
    refusal: Outcome, verdicts: list[str]
) -> None:
    log = AttemptLog()
    log.add(refusal)
    assert [each.verdict for each in judge_refusals(log, ("key",))] == verdicts
