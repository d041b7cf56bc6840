"""Rates of errors: attempts of calls with a route, in the last minutes, over all processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.llm.usage import ParsedUsage
from headgate.relay.call_state import CallState
from headgate.relay.request_log import AttemptFilter
from headgate.relay.targets import FALLBACK, CallEvent, CallRoute, Target
from headgate.request_log.service import error_rates
from headgate.request_log.service.error_rates import KINDS_MAX, AttemptCounter, matches
from headgate.request_log.store.error_rates import ATTEMPT_COUNTS, AttemptKind
from tests.fakes.example_receipt import make_receipt
from tests.fakes.ledger import SetClock
from tests.fakes.pipeline import make_call

PROJECT = "proj_1"
FAST = Target("gpt-5.4-mini", "first")


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def database(empty_place: Path | str) -> Generator[Database]:
    database = Database(empty_place)
    with database.transaction() as connection:
        METADATA.create_all(connection, tables=[ATTEMPT_COUNTS])
    yield database
    database.close()


def observe(
    counter: AttemptCounter,
    *events: CallEvent,
    target: Target = FAST,
    resource_id: str = "res_1",
    **changes: Any,
) -> None:
    """Tell a counter of a call, completed by default."""
    usual: dict[str, Any] = {"project_id": PROJECT, "credential_id": "cred_1", "attempts": 1}
    usual |= {"status": 200, "outcome": "completed"}
    receipt = make_receipt(**{**usual, **changes})
    call = make_call()
    call.route = CallRoute("fast", (FAST,), resource_id=resource_id)
    counter.observe(
        CallState(call, ParsedUsage(), routed_target=target, events=tuple(events)), receipt
    )


def fail(counter: AttemptCounter, status: int = 500, **changes: Any) -> None:
    observe(counter, status=status, outcome="upstream_error", **changes)


def test_rate_is_that_of_the_last_ten_minutes(clock: SetClock) -> None:
    counter = AttemptCounter(clock, "proc_1")
    assert counter.find(PROJECT) == 0.0
    fail(counter)
    clock.time += 300
    for _ in range(3):
        observe(counter)
    assert counter.find(PROJECT) == 25.0
    clock.time += 301
    assert counter.find(PROJECT) == 0.0
    assert counter.find(PROJECT, minutes=20) == 25.0
    clock.time += 3_600
    observe(counter)
    assert counter.sum(PROJECT, minutes=60).attempts == 1
    assert counter.find("proj_2", minutes=60) == 0.0


def test_rate_is_narrowed_by_status_credential_model_and_resource(clock: SetClock) -> None:
    counter = AttemptCounter(clock, "proc_1")
    fail(counter, 429)
    fail(counter, 500)
    observe(counter)
    observe(counter, target=Target("openai/gpt-5.4"), credential_id="cred_2")
    assert counter.find(PROJECT) == 50.0
    assert counter.find(PROJECT, AttemptFilter(status=429)) == 25.0
    assert counter.find(PROJECT, AttemptFilter(credential="cred_2")) == 0.0
    assert round(counter.find(PROJECT, AttemptFilter(model="gpt-5.4-mini")), 1) == 66.7
    assert counter.sum(PROJECT, AttemptFilter(model="gpt-5.4")).attempts == 1
    assert counter.sum(PROJECT, AttemptFilter(resource_id="res_1")).attempts == 4
    assert counter.sum(PROJECT, AttemptFilter(resource_id="res_2")).attempts == 0


def test_attempts_before_a_fallback_count_and_refusals_do_not(clock: SetClock) -> None:
    counter = AttemptCounter(clock, "proc_1")
    tried = CallEvent(
        FALLBACK,
        0.0,
        failed_model="gpt-5.4",
        failed_credential_id="cred_9",
        failed_credential="backup",
        status=503,
        attempts=2,
    )
    refused = CallEvent(FALLBACK, 0.0, failed_model="gpt-5.4", status=429)
    observe(counter, tried, refused)
    observe(counter, attempts=0, outcome="refused", status=402)
    observe(counter, outcome="cancelled", status=408)
    assert (counter.sum(PROJECT).attempts, counter.sum(PROJECT).failed) == (2, 1)
    for name in ("cred_9", "backup"):
        assert counter.find(PROJECT, AttemptFilter(credential=name)) == 100.0


def test_processes_tell_each_other(database: Database, clock: SetClock) -> None:
    first, second = AttemptCounter(clock, "proc_1"), AttemptCounter(clock, "proc_2")
    fail(first)
    observe(second)
    for _ in range(2):
        for counter in (first, second):
            with database.transaction() as connection:
                counter.share(connection)
    assert first.find(PROJECT) == second.find(PROJECT) == 50.0
    observe(first)
    with database.transaction() as connection:
        first.share(connection)
    with database.transaction() as connection:
        later = AttemptCounter(clock, "proc_3")
        later.share(connection)
    assert (later.sum(PROJECT).attempts, later.sum(PROJECT).failed) == (3, 1)
    clock.time += 2 * 3_600
    observe(first)
    with database.transaction() as connection:
        first.share(connection)
        later.share(connection)
    assert later.sum(PROJECT, minutes=60).attempts == 1


def test_models_that_callers_make_up_do_not_fill_the_memory(clock: SetClock) -> None:
    counter = AttemptCounter(clock, "proc_1")
    for number in range(KINDS_MAX + 50):
        observe(counter, target=Target(f"made-up-{number}"))
    assert counter.sum(PROJECT).attempts == KINDS_MAX + 50
    assert counter.sum(PROJECT, AttemptFilter(model="")).attempts == 50


def test_rate_of_a_resource_is_not_slowed_by_its_past_nor_by_other_resources(
    clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, examined = AttemptCounter(clock, "proc_1"), Counter[str]()

    def match(kind: AttemptKind, wanted: AttemptFilter) -> bool:
        examined[kind.resource_id] += 1
        return matches(kind, wanted)

    monkeypatch.setattr(error_rates, "matches", match)
    wanted = AttemptFilter(resource_id="res_1", credential="cred_1", model="gpt-5.4-mini")
    for _ in range(5):
        observe(counter)
        observe(counter, target=Target("made-up"), resource_id="res_2")
        clock.time += 60
    fail(counter)
    assert [round(counter.find(PROJECT, wanted), 1) for _ in range(10)] == [16.7] * 10
    assert examined == {"res_1": 5 + 10}
