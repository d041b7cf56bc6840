"""Each verdict on repeated calls can fail."""

from __future__ import annotations

import pytest

from rigs.torture.attempts import Attempt, Outcome
from rigs.torture.oracle import Answer
from rigs.torture.repeated import Repetitions, judge_keys

ATTEMPT = Attempt(tag="key-1")


@pytest.mark.parametrize(
    ("tags", "cut", "billed", "verdicts"),
    [
        ({"a1": "key-1"}, {}, ["a1"], []),
        ({"a1": "key-1", "a2": "key-1"}, {"key-1": 1}, ["a2"], []),
        ({"a1": "key-1", "a2": "key-1"}, {}, ["a2"], ["R1"]),
        ({"a1": "key-1", "a2": "key-1", "a3": "key-1"}, {"key-1": 5}, ["a3"], ["R1"]),
        ({"a1": "key-1", "a2": "key-1"}, {"key-1": 1}, ["a1", "a2"], ["R2"]),
    ],
)
def test_key_that_is_called_too_often_or_billed_twice_is_found(
    tags: dict[str, str], cut: dict[str, int], billed: list[str], verdicts: list[str]
) -> None:
    found = judge_keys(lambda _query: [(each,) for each in billed], tags, cut)
    assert [each.verdict for each in found] == verdicts


def test_second_answer_that_differs_is_found() -> None:
    done = Repetitions()
    for body in (b"one", b"one", b"two"):
        assert done.add(Outcome(ATTEMPT, 200, Answer("req_1", "a1"), body))
    assert [each.verdict for each in done.findings] == ["R2"]


def test_refusal_that_no_client_repeats_is_found() -> None:
    done = Repetitions()
    assert done.add(Outcome(ATTEMPT, 422, body=b"{}"))
    assert [each.verdict for each in done.findings] == ["L1"]


def test_connection_that_dies_is_tried_again_and_an_unknown_outcome_is_not() -> None:
    done = Repetitions()
    unknown = b'{"error": {"code": "idempotency_outcome_unknown"}}'
    assert not done.add(Outcome(ATTEMPT, 0))
    assert done.add(Outcome(ATTEMPT, 409, body=unknown))
    assert done.findings == []
    assert done.unknown == {"key-1"}
