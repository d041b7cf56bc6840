"""Calls with an idempotency key against a plain model: two processes, kills, late ends."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from headgate.billing.service.claimed_calls import ClaimedCalls
from headgate.billing.service.ledger import Ledger, find_inconsistencies, fund
from headgate.kit import outbox
from headgate.kit.claims import Claimed, ClaimEnding, ClaimRequest, ClaimState, ClaimVerdict
from headgate.kit.db.claim_store import KEPT_SECONDS, ClaimStore
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from headgate.metering import store as metering
from headgate.relay.ports import Hold
from tests.fakes.ledger import NOVEMBER, ORG, SetClock, make_hold, make_receipt
from tests.fakes.postgres import Postgres
from tests.fakes.state_machines import LIMITS, run_on_postgresql

LEASE_SECONDS = 60.0
HELD_NANO = 100
KEYS = (b"a" * 32, b"b" * 32)
PROCESSES = 2


class Server:
    """Run what one process has of claims and ledger."""

    def __init__(self, database: Database, clock: SetClock) -> None:
        self.writer = Writer(database)
        self.writer.start()
        self.ledger = Ledger(self.writer, clock, read_wanted=outbox.want_nothing)
        self.claims = ClaimStore(self.writer, clock, lease_seconds=LEASE_SECONDS)
        self.calls = ClaimedCalls(self.ledger, self.claims)


class Run:
    """Model one run of a request: who runs it, and whether it ended."""

    def __init__(self, name: str, key: bytes, server: Server, claimed: Claimed) -> None:
        self.name = name
        self.key = key
        self.server = server
        self.claimed = claimed
        self.hold: Hold | None = None
        self.is_dead = False


class ModelClaim:
    """Model what is known of a key: its request, its runs in order, and its answer."""

    def __init__(self, digest: bytes, created_at: float) -> None:
        self.digest = digest
        self.created_at = created_at
        self.runs: list[Run] = []
        self.running: Run | None = None
        self.lease_until = 0.0
        self.answer: bytes | None = None
        self.was_asked = False
        """Whether the key was used again after both of its runs had no known end."""

    def is_live(self, now: float) -> bool:
        return self.running is not None and self.lease_until > now


class ClaimsAgainstModel(RuleBasedStateMachine):
    """Compare claims, their answers and their bills with a model."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.database = self.open_database()
        self.clock = SetClock(NOVEMBER)
        self.runner = asyncio.Runner()
        self.servers: list[Server] = []
        self.model: dict[bytes, ModelClaim] = {}
        self.past: list[ModelClaim] = []
        self.open: list[Run] = []
        """Runs that have not ended, dead ones among them: these may end late."""
        self.number = 0

    def open_database(self) -> Database:
        return Database(Path(self.directory.name) / "test.db")

    @initialize()
    def start(self) -> None:
        with self.database.transaction() as connection:
            METADATA.create_all(connection)
            fund(connection, ORG, amount_nano=10**9, reference="start", now=1.0)

        async def begin() -> None:
            self.servers = [Server(self.database, self.clock) for _ in range(PROCESSES)]

        self.runner.run(begin())

    @rule(
        key=st.sampled_from(KEYS),
        digest=st.sampled_from([b"d" * 32, b"d" * 32, b"e" * 32]),
        place=st.integers(0, PROCESSES - 1),
    )
    def send(self, key: bytes, digest: bytes, place: int) -> None:
        self.number += 1
        name, server = f"req_{self.number:04}", self.servers[place]
        expected = self.expect(key, digest)
        self.runner.run(self.ask(name, key, digest, server, expected))

    def expect(self, key: bytes, digest: bytes) -> ClaimState:
        now, claim = self.clock.now(), self.model.get(key)
        if claim is not None and claim.created_at <= now - KEPT_SECONDS and not claim.is_live(now):
            self.past.append(self.model.pop(key))
            claim = None
        if claim is None:
            self.model[key] = ModelClaim(digest, now)
            return ClaimState.ACQUIRED
        if claim.digest != digest:
            return ClaimState.REUSED
        if claim.answer is not None:
            return ClaimState.ANSWERED
        if claim.is_live(now):
            return ClaimState.RUNNING
        return ClaimState.EXHAUSTED if len(claim.runs) == 2 else ClaimState.ACQUIRED

    async def ask(
        self, name: str, key: bytes, digest: bytes, server: Server, expected: ClaimState
    ) -> None:
        claim = self.model[key]
        request = ClaimRequest(key, digest, name, ORG)
        claimed = await server.claims.acquire(request)
        assert claimed.state is expected
        if expected is ClaimState.ANSWERED:
            assert claimed.answer == claim.answer
        elif expected is ClaimState.EXHAUSTED:
            # As `IdempotentCalls` does.
            await server.calls.waive(claimed.previous, billed_as=claimed.owner)
            claim.was_asked = True
        elif expected is ClaimState.ACQUIRED:
            assert claimed.previous == (claim.runs[-1].name if claim.runs else "")
            run = Run(name, key, server, claimed)
            server.claims.track(request)
            run.hold = await server.ledger.hold(make_hold(name, HELD_NANO))
            claim.runs.append(run)
            claim.running, claim.lease_until = run, self.clock.now() + LEASE_SECONDS
            self.open.append(run)

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        ending=st.sampled_from([ClaimEnding.ANSWERED, ClaimEnding.FREED, ClaimEnding.UNKNOWN]),
        cost_nano=st.integers(1, HELD_NANO),
    )
    def end(self, data: st.DataObject, ending: ClaimEnding, cost_nano: int) -> None:
        run = data.draw(st.sampled_from(self.open))
        self.open.remove(run)
        # A dead run ends late, as of a process that was thought to be dead.
        server = self.servers[0] if run.is_dead else run.server
        assert run.hold is not None
        outcome = {
            ClaimEnding.ANSWERED: "completed",
            ClaimEnding.FREED: "upstream_error",
            ClaimEnding.UNKNOWN: "unknown",
        }[ending]
        cost_nano = 0 if ending is ClaimEnding.FREED else cost_nano
        receipt = msgspec.structs.replace(make_receipt(run.hold, cost_nano), outcome=outcome)
        answer = run.name.encode() if ending is ClaimEnding.ANSWERED else b""
        verdict = ClaimVerdict(
            run.key, run.name, ending, answer, None, previous=run.claimed.previous
        )

        async def record() -> None:
            run.server.claims.forget(run.key)
            await server.calls.record_claimed(receipt, run.hold, verdict)

        self.runner.run(record())
        claim = self.model.get(run.key)
        if claim is None or claim.running is not run:
            return
        claim.running = None
        if ending is ClaimEnding.ANSWERED:
            claim.answer = answer
        elif ending is ClaimEnding.FREED:
            claim.runs.remove(run)
            if not claim.runs:
                del self.model[run.key]

    @rule(place=st.integers(0, PROCESSES - 1))
    def kill(self, place: int) -> None:
        async def replace_server() -> None:
            await self.servers[place].writer.stop()
            self.servers[place] = Server(self.database, self.clock)

        for run in self.open:
            run.is_dead = run.is_dead or run.server is self.servers[place]
        self.runner.run(replace_server())

    @rule(seconds=st.sampled_from([1.0, 59.0, 61.0, 1_000.0, float(KEPT_SECONDS)]))
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds

        async def work() -> None:
            for server in self.servers:
                await server.claims.extend()
                await server.ledger.resolve_expired()

        self.runner.run(work())
        for claim in self.model.values():
            if claim.running is not None and not claim.running.is_dead:
                claim.lease_until = self.clock.now() + LEASE_SECONDS

    @rule()
    def prune(self) -> None:
        now = self.clock.now()
        self.runner.run(self.prune_store())
        for key, claim in list(self.model.items()):
            if claim.created_at <= now - KEPT_SECONDS and not (
                claim.running is not None and claim.lease_until > now
            ):
                self.past.append(self.model.pop(key))

    async def prune_store(self) -> None:
        await self.servers[0].claims.prune()

    @invariant()
    def one_key_runs_twice_at_most_and_is_billed_once(self) -> None:
        if not self.servers:
            return
        bills = self.read_bills()
        for claim in [*self.model.values(), *self.past]:
            assert len(claim.runs) <= 2
            billed = [run.name for run in claim.runs if bills.get(run.name, 0) > 0]
            are_lost = len(claim.runs) == 2 and claim.runs[1] is claim.running
            assert len(billed) <= 1 or (are_lost and not claim.was_asked), billed

    @invariant()
    def books_add_up(self) -> None:
        if not self.servers:
            return
        with self.database.reading() as connection:
            assert find_inconsistencies(connection) == []

    def read_bills(self) -> dict[str, int]:
        """Return what each run costs, corrections included."""
        columns = metering.RECEIPTS.c
        bills: dict[str, int] = {}
        with self.database.reading() as connection:
            rows: Any = connection.execute(sa.select(columns.request_id, columns.cost_nano))
            for request_id, cost_nano in rows:
                name = request_id.partition(".c")[0]
                bills[name] = bills.get(name, 0) + cost_nano
        return bills

    def teardown(self) -> None:
        async def stop() -> None:
            for server in self.servers:
                await server.writer.stop()

        self.runner.run(stop())
        self.runner.close()
        self.database.close()
        self.directory.cleanup()


TestClaimsAgainstModel = ClaimsAgainstModel.TestCase
TestClaimsAgainstModel.settings = LIMITS


def test_claims_on_postgresql_are_the_model_too(postgres: Postgres) -> None:
    run_on_postgresql(ClaimsAgainstModel, postgres)
