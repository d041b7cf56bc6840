"""Responses in the background are held for until they end, and settled once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from structlog.testing import capture_logs

from headgate.billing import jobs
from headgate.billing.service import background
from headgate.billing.service.background import BackgroundStore, DueResponse
from headgate.billing.service.ledger import count_open_holds, read_available
from headgate.billing.service.verification import verify
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.errors import HeadgateError
from headgate.kit.http.errors import FirstByteTimeoutError
from headgate.kit.http.message import Request
from headgate.llm.usage import ParsedUsage, Usage
from headgate.metering import store as metering
from headgate.relay.background import LOST_SECONDS, BackgroundCalls, make_pending
from headgate.relay.ports import (
    BackgroundResponse,
    BackgroundWork,
    Budget,
    Credential,
    Hold,
    Receipt,
    add_work,
)
from tests.fakes.ledger import ORG, LedgerHarness, SetClock, make_hold, make_receipt, running_ledger
from tests.fakes.pipeline import (
    CREDENTIAL,
    SECRET,
    FakeClient,
    FakeCredentials,
    FakeModels,
    FakeResponse,
)

pytestmark = pytest.mark.anyio

FUNDED = 1_000
HELD = 600
SECONDS_MAX = 86_400.0
ESTIMATE = Usage(input_tokens=7)
USAGE = {"input_tokens": 100, "output_tokens": 20}
COST = 100 + 10 * 20
PRIVATE = "what nobody may log"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Provider(FakeCredentials):
    """Work on one response until a test says how it ends; its credential can be removed."""

    def __init__(self) -> None:
        super().__init__(replace(CREDENTIAL, id="crd_1"))
        self.client = FakeClient(self._answer)
        self.http_status = 200
        self.response_id = "resp_1"
        self.status = "queued"
        self.usage: dict[str, int] | None = None
        self.is_silent = False
        self.is_removed = False
        self.hangs = False
        self.released = asyncio.Event()
        self._asked = asyncio.Semaphore(0)

    async def wait_asked(self, times: int) -> None:
        for _ in range(times):
            await self._asked.acquire()

    async def _answer(self, request: Request) -> FakeResponse:
        self._asked.release()
        if self.hangs:
            await self.released.wait()
        if self.is_silent:
            raise FirstByteTimeoutError(PRIVATE)
        body = {
            "id": self.response_id,
            "status": self.status,
            "model": "gpt-5.4-mini",
            "usage": self.usage,
            "output": [{"type": "message", "content": PRIVATE}],
        }
        return FakeResponse(self.http_status, [], json.dumps(body).encode())

    def resolve(self, organization_id: str, **named: Any) -> Credential:
        if self.is_removed:
            raise HeadgateError("It is gone.")
        assert named["name"] == "crd_1", "the credential that created it"
        return self.credential

    def end(self, status: str = "completed", usage: dict[str, int] | None = USAGE) -> None:
        self.status, self.usage = status, usage

    def read(self) -> ParsedUsage:
        """Return what a call that reads the response learns of it."""
        usage = self.usage
        return ParsedUsage(
            usage=Usage(usage["input_tokens"], output_tokens=usage["output_tokens"])
            if usage
            else None,
            model="gpt-5.4-mini",
            answer_id=self.response_id,
            status=self.status,
        )


class Process:
    """Run one process with its jobs, against a provider that a test controls."""

    def __init__(self, harness: LedgerHarness, provider: Provider) -> None:
        self.harness = harness
        self.provider = provider
        self.observed: list[Receipt] = []
        self.ended = asyncio.Event()
        self.stored = BackgroundStore(
            AsyncDatabase(harness.database, harness.writer, reload=lambda: None),
            harness.writer,
            harness.clock,
            seconds_max=SECONDS_MAX,
        )
        self.calls = BackgroundCalls(
            self.stored,
            harness.ledger,
            FakeModels(),
            provider,
            provider.client,
            harness.clock,
            observe=self._observe,
        )
        self.questions = jobs.BackgroundQuestions(self.stored, self.calls)

    def _observe(self, receipt: Receipt, _settlement_microseconds: int) -> None:
        self.observed.append(receipt)
        self.ended.set()

    @property
    def asked(self) -> int:
        return len(self.provider.client.sent)

    def wait(self, seconds: float) -> None:
        self.harness.clock.time += seconds

    async def run_job(self) -> None:
        await self.questions.run()
        await self.questions.wait()

    def take_due(self) -> Awaitable[list[DueResponse]]:
        return self.stored.take_due(rows_max=8, rows_of_organization_max=8)

    async def create(
        self,
        hold: Hold | None = None,
        *,
        managed: bool = True,
        request_id: str = "req_1",
        ask_seconds: float = 2.0,
        model: str = "gpt-5.4-mini",
        organization: str = ORG,
    ) -> Hold | None:
        """Create a response as a call does, after its hold."""
        if hold is not None:
            hold = await self.harness.ledger.hold(hold)
        await self.keep(
            hold,
            managed=managed,
            request_id=request_id,
            ask_seconds=ask_seconds,
            model=model,
            organization=organization,
        )
        return hold

    async def keep(
        self,
        hold: Hold | None,
        *,
        managed: bool = True,
        request_id: str = "req_1",
        ask_seconds: float = 2.0,
        model: str = "gpt-5.4-mini",
        organization: str = ORG,
    ) -> None:
        created = make_receipt(
            make_hold(request_id, 0, managed=managed), 0, created_at=self.harness.clock.now()
        )
        created = replace(
            created, organization_id=organization, credential_id="crd_1", model_requested=model
        )
        work = BackgroundWork(
            "resp_1",
            "queued",
            model,
            json.dumps({"max_output_tokens": 50}),
            ESTIMATE,
            (("openai-project", "proj_upstream"),),
            ask_seconds,
        )
        assert await self.harness.ledger.record(add_work(make_pending(created), work), hold) is None

    async def find(self) -> BackgroundResponse:
        found = await self.stored.find(ORG, "resp_1")
        assert found is not None
        return found

    def list_receipts(self) -> list[Receipt]:
        with self.harness.database.reading() as connection:
            return list(reversed(metering.list_recent(connection, ORG, rows_max=10)))

    def check(self, *, available: int, open_holds: int = 0) -> None:
        """Check the money, and that the whole ledger adds up."""
        with self.harness.database.reading() as connection:
            assert read_available(connection, ORG) == available
            assert count_open_holds(connection) == open_holds
            assert verify(connection) == []

    def check_event(self, status: str, name: str = "") -> dict[str, Any]:
        """Check that there is one event of the response, with that status. Return its content."""
        topics = ("completed", "incomplete", "failed", "cancelled")
        found = {each: self.harness.read_events(f"response.{each}") for each in topics}
        events = {each: rows for each, rows in found.items() if rows}
        assert list(events) == [name or status]
        ((event,),) = events.values()
        assert (event["status"], event["response_id"]) == (status, "resp_1")
        assert event["request_id"] == "req_1"
        return event


@contextlib.asynccontextmanager
async def running(place: Path | str, provider: Provider | None = None) -> AsyncGenerator[Process]:
    async with running_ledger(place, funded_nano=FUNDED) as harness:
        yield Process(harness, provider or Provider())


async def test_job_asks_until_the_response_has_ended_and_settles_it_once(
    empty_place: Path | str,
) -> None:
    async with running(empty_place) as process:
        await process.create(make_hold("req_1", HELD))
        process.check(available=FUNDED - HELD, open_holds=1)
        assert process.list_receipts() == []
        await process.run_job()
        assert process.asked == 0, "not before two seconds"
        for seconds, asked in ((2, 1), (2, 1), (1, 2), (5, 3), (9, 3), (1, 4)):
            process.wait(seconds)
            await process.run_job()
            assert process.asked == asked
        process.provider.end()
        process.wait(20)
        for _ in range(2):
            await process.run_job()
        (receipt,) = process.list_receipts()
        assert (receipt.outcome, receipt.pricing, receipt.cost_nano) == (
            "completed",
            "priced",
            COST,
        )
        assert receipt.usage == Usage(100, output_tokens=20)
        assert receipt.request_id == "req_1"
        assert not receipt.estimated
        process.check(available=FUNDED - COST)
        event = process.check_event("completed")
        assert event["cost_nano"] == COST
        assert len(process.harness.read_events("request.completed")) == 1
        assert [each.request_id for each in process.observed] == ["req_1"]
        process.wait(1_000)
        await process.run_job()
        assert process.asked == 5
        sent = process.provider.client.sent[0]
        assert (sent.method, sent.target) == (b"GET", b"/v1/responses/resp_1")
        assert (b"authorization", b"Bearer " + SECRET) in sent.headers
        assert (b"openai-project", b"proj_upstream") in sent.headers, "as at the creation"


async def test_hold_outlives_leases_and_restarts(empty_place: Path | str) -> None:
    provider = Provider()
    async with running(empty_place, provider) as process:
        await process.create(make_hold("req_1", HELD))
        process.wait(10_000)
        assert await process.harness.ledger.resolve_expired() == 0
        process.check(available=FUNDED - HELD, open_holds=1)
        later = process.harness.clock.time
        await process.harness.writer.stop()
        harness = LedgerHarness(process.harness.database, SetClock(later))
        next_process = Process(harness, provider)
        assert await harness.ledger.resolve_abandoned() == 0
        provider.end()
        await next_process.run_job()
        next_process.check(available=FUNDED - COST)
        await harness.writer.stop()
        process.harness.writer.start()


async def test_one_process_asks_at_a_time(empty_place: Path | str) -> None:
    async with running(empty_place) as process:
        await process.create(make_hold("req_1", HELD))
        process.wait(2)
        taken = await asyncio.gather(process.take_due(), process.take_due())
        assert sorted(map(len, taken)) == [0, 1]
        assert await process.take_due() == []
        process.wait(background.ASK_LEASE_SECONDS)
        (due,) = await process.take_due()
        assert due.response.work.response_id == "resp_1"
        process.check(available=FUNDED - HELD, open_holds=1)


async def test_two_processes_on_one_database_never_ask_for_the_same(postgres_url: str) -> None:
    clock = SetClock()
    async with running_ledger(postgres_url, funded_nano=100_000, clock=clock) as harness:
        first = Process(harness, Provider())
        other = Process(LedgerHarness(harness.database, clock), Provider())
        for number in range(30):
            name = f"req_{number}"
            await first.create(make_hold(name, HELD), request_id=name)
        clock.time += 2
        seen: list[str] = []

        async def take(process: Process) -> None:
            while due := await process.take_due():
                seen.extend(each.response.receipt.request_id for each in due)

        await asyncio.gather(*(take(process) for process in (first, other) * 2))
        assert sorted(seen) == sorted(f"req_{number}" for number in range(30))
        await other.harness.writer.stop()


async def test_provider_that_does_not_answer_delays_its_own_organization_alone(
    empty_place: Path | str,
) -> None:
    async with running(empty_place) as process:
        provider = process.provider
        for number in range(2 * jobs.ASKED_OF_ORGANIZATION):
            await process.create(request_id=f"req_slow_{number}", managed=False, organization="o")
        process.wait(2)
        provider.hangs = True
        all_asked = asyncio.create_task(process.questions.run())
        await provider.wait_asked(jobs.ASKED_OF_ORGANIZATION)
        provider.hangs = False
        await process.create(make_hold("req_1", HELD))
        provider.end()
        process.wait(2)
        await process.questions.run()
        await process.ended.wait()
        process.check(available=FUNDED - COST)
        assert process.asked == jobs.ASKED_OF_ORGANIZATION + 1
        provider.released.set()
        await all_asked
        await process.questions.wait()


async def test_whoever_sees_the_end_first_settles_it_and_the_others_change_nothing(
    empty_place: Path | str,
) -> None:
    async with running(empty_place) as process:
        await process.create(make_hold("req_1", HELD))
        process.wait(2)
        process.provider.end()
        found, seen = await process.find(), process.provider.read()
        credential = process.provider.credential
        await asyncio.gather(
            process.run_job(),
            process.calls.settle(found, seen, credential),
            process.calls.settle(found, seen, credential),
            process.calls.give_up(found, "background_deleted"),
        )
        assert len(process.list_receipts()) <= 2, "a bill, and at most its correction"
        assert sum(each.cost_nano for each in process.list_receipts()) == COST
        process.check(available=FUNDED - COST)
        assert len(process.observed) == 1
        assert (await process.find()).status == "completed"


async def test_response_whose_end_was_seen_by_the_caller_is_not_asked_for(
    empty_place: Path | str,
) -> None:
    async with running(empty_place) as process:
        await process.create(make_hold("req_1", HELD))
        process.provider.end("incomplete")
        await process.calls.settle(
            await process.find(), process.provider.read(), process.provider.credential
        )
        process.wait(100)
        await process.run_job()
        assert process.asked == 0
        process.check(available=FUNDED - COST)
        process.check_event("incomplete")


@pytest.mark.parametrize(
    ("status", "usage", "cost", "outcome", "estimated"),
    [
        ("cancelled", None, 7, "cancelled", True),
        ("cancelled", USAGE, COST, "cancelled", False),
        ("failed", None, 0, "upstream_error", False),
        ("failed", USAGE, COST, "upstream_error", False),
    ],
)
async def test_response_without_an_answer_costs_what_its_provider_reports(
    tmp_path: Path,
    status: str,
    usage: dict[str, int] | None,
    cost: int,
    outcome: str,
    estimated: bool,
) -> None:
    async with running(tmp_path / "test.db") as process:
        await process.create(make_hold("req_1", HELD))
        process.provider.end(status, usage)
        process.wait(2)
        await process.run_job()
        (receipt,) = process.list_receipts()
        assert (receipt.outcome, receipt.cost_nano) == (outcome, cost)
        assert (receipt.estimated, receipt.error_code) == (estimated, status)
        process.check(available=FUNDED - cost)
        process.check_event(status)


async def test_answer_without_usage_and_impossible_usage_cost_the_hold(tmp_path: Path) -> None:
    for name, usage, pricing in (
        ("none", None, "unpriced"),
        # It costs more than the hold, and is more than the request allowed.
        ("more", {"input_tokens": 1, "output_tokens": 70}, "implausible"),
    ):
        async with running(tmp_path / f"{name}.db") as process:
            await process.create(make_hold("req_1", HELD))
            process.provider.end("completed", usage)
            process.wait(2)
            await process.run_job()
            (receipt,) = process.list_receipts()
            assert (receipt.pricing, receipt.cost_nano) == (pricing, HELD)
            process.check(available=FUNDED - HELD)


async def test_lost_response_costs_its_hold_until_its_end_is_known(
    empty_place: Path | str,
) -> None:
    async with running(empty_place) as process:
        provider = process.provider
        await process.create(make_hold("req_1", HELD))
        provider.http_status = 404
        process.wait(2)
        await process.run_job()
        assert (process.asked, process.list_receipts()) == (1, []), "it may not be there yet"
        process.wait(LOST_SECONDS)
        await process.run_job()
        (receipt,) = process.list_receipts()
        assert (receipt.outcome, receipt.error_code) == ("unknown", "background_lost")
        assert (receipt.cost_nano, receipt.estimated) == (HELD, True)
        process.check(available=FUNDED - HELD)
        process.check_event("unknown", "failed")
        # It is there after all: the caller reads it, and the bill is corrected, once.
        provider.end()
        for _ in range(2):
            await process.calls.settle(await process.find(), provider.read(), provider.credential)
        corrections = process.list_receipts()[1:]
        assert [(each.request_id, each.cost_nano) for each in corrections] == [
            ("req_1.c1", COST - HELD)
        ]
        process.check(available=FUNDED - COST)
        assert (await process.find()).status == "completed"
        assert len(process.observed) == 1


@pytest.mark.parametrize("trouble", ["silent", "removed", "busy", "running", "other"])
async def test_response_whose_end_nobody_can_tell_is_given_up_after_a_day(
    tmp_path: Path, trouble: str
) -> None:
    async with running(tmp_path / "test.db") as process:
        provider = process.provider
        await process.create(make_hold("req_1", HELD))
        if trouble == "silent":
            provider.is_silent = True
        elif trouble == "removed":
            provider.is_removed = True
        elif trouble == "busy":
            provider.http_status = 503
        elif trouble == "other":
            provider.end()
            provider.response_id = "resp_2"
        with capture_logs() as logs:
            process.wait(SECONDS_MAX - 1)
            await process.run_job()
            assert process.list_receipts() == []
            process.check(available=FUNDED - HELD, open_holds=1)
            process.wait(3)
            await process.run_job()
        (receipt,) = process.list_receipts()
        assert (receipt.outcome, receipt.error_code) == ("unknown", "background_expired")
        process.check(available=FUNDED - HELD)
        process.check_event("unknown", "failed")
        assert PRIVATE not in str(logs)
        assert process.asked == (0 if trouble == "removed" else 2)


async def test_response_that_ends_on_its_last_day_is_priced(tmp_path: Path) -> None:
    async with running(tmp_path / "test.db") as process:
        await process.create(make_hold("req_1", HELD))
        process.provider.end()
        process.wait(3 * SECONDS_MAX)
        await process.run_job()
        process.check(available=FUNDED - COST)


async def test_own_key_response_has_one_receipt_at_its_end(empty_place: Path | str) -> None:
    async with running(empty_place) as process:
        await process.create(managed=False)
        assert process.list_receipts() == []
        process.provider.end()
        process.wait(2)
        found = await process.find()
        await process.run_job()
        await process.calls.settle(found, process.provider.read(), process.provider.credential)
        (receipt,) = process.list_receipts()
        assert (receipt.managed, receipt.cost_nano, receipt.usage) == (
            False,
            COST,
            Usage(100, output_tokens=20),
        )
        process.check(available=FUNDED)
        process.check_event("completed")


async def test_own_key_response_that_is_lost_is_estimated_and_corrected(tmp_path: Path) -> None:
    async with running(tmp_path / "test.db") as process:
        # The price of the model that served counts.
        await process.create(managed=False, model="my-model")
        await process.calls.give_up(await process.find(), "background_deleted")
        (receipt,) = process.list_receipts()
        assert (receipt.outcome, receipt.cost_nano, receipt.estimated) == ("unknown", 7, True)
        process.provider.end()
        await process.calls.settle(
            await process.find(), process.provider.read(), process.provider.credential
        )
        assert sum(each.cost_nano for each in process.list_receipts()) == COST
        process.check(available=FUNDED)


@pytest.mark.parametrize("managed", [False, True])
async def test_end_that_is_seen_after_its_receipt_was_deleted_bills_nothing(
    tmp_path: Path, *, managed: bool
) -> None:
    async with running(tmp_path / "test.db") as process:
        await process.create(make_hold("req_1", HELD) if managed else None, managed=managed)
        await process.calls.give_up(await process.find(), "background_deleted")
        with process.harness.database.transaction() as connection:
            connection.execute(sa.delete(metering.RECEIPTS))
        process.provider.end()
        await process.calls.settle(
            await process.find(), process.provider.read(), process.provider.credential
        )
        assert process.list_receipts() == []


async def test_own_key_response_holds_its_budget_until_it_ends(empty_place: Path | str) -> None:
    async with running(empty_place) as process:
        budget = process.harness.set_budget(Budget("organization", ORG, HELD))
        await process.create(make_hold("req_1", HELD, budget, managed=False), managed=False)
        counter = process.harness.read_counter(budget)
        assert counter is not None
        assert (counter.held_nano, counter.used_nano) == (HELD, 0)
        process.provider.end()
        process.wait(2)
        await process.run_job()
        counter = process.harness.read_counter(budget)
        assert counter is not None
        assert (counter.held_nano, counter.used_nano) == (0, COST)
        (reached,) = process.harness.read_events("usage.threshold_reached")
        assert (reached["threshold"], reached["request_id"]) == (50, "req_1")
        process.check(available=FUNDED)


async def test_stream_that_breaks_off_is_asked_for_sooner_than_one_that_runs(
    empty_place: Path | str,
) -> None:
    async with running(empty_place) as process:
        hold = await process.create(make_hold("req_1", HELD), ask_seconds=60.0)
        process.wait(10)
        await process.run_job()
        assert process.asked == 0
        await process.keep(hold)
        process.wait(2)
        await process.run_job()
        assert process.asked == 1


async def test_end_of_the_stream_itself_settles_without_a_question(
    empty_place: Path | str,
) -> None:
    async with running(empty_place) as process:
        hold = await process.create(make_hold("req_1", HELD), ask_seconds=60.0)
        found = await process.find()
        ended = add_work(
            replace(found.receipt, outcome="completed", pricing="priced", cost_nano=COST),
            replace(found.work, status="completed"),
        )
        assert await process.harness.ledger.record(ended, hold) is True
        assert await process.harness.ledger.record(ended, hold) is False
        process.check(available=FUNDED - COST)
        process.check_event("completed")


async def test_receipt_that_waits_for_the_database_keeps_its_response(tmp_path: Path) -> None:
    async with running(tmp_path / "test.db") as process:
        hold = await process.harness.ledger.hold(make_hold("req_1", HELD))
        created = make_pending(make_receipt(hold, 0))
        work = BackgroundWork("resp_1", "queued")
        process.harness.ledger.defer(add_work(created, work), hold)
        assert await process.harness.ledger.recover() == []
        assert (await process.find()).status is None
        process.check(available=FUNDED - HELD, open_holds=1)


async def test_settled_responses_are_forgotten_after_thirty_days(tmp_path: Path) -> None:
    async with running(tmp_path / "test.db") as process:
        await process.create(make_hold("req_1", HELD))
        await process.create(make_hold("req_2", 100), request_id="req_2")
        await process.calls.give_up(await process.find(), "background_deleted")
        assert await process.stored.count_running() == 1
        process.wait(background.KEPT_SECONDS - 1)
        assert await process.stored.prune() == 0
        process.wait(2)
        assert await process.stored.prune() == 1
        assert await process.stored.count_running() == 1
