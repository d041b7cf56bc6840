"""Store claims in the database, where every process sees them (`kit.claims`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
import structlog

from headgate.kit.claims import Claimed, ClaimEnding, ClaimRequest, ClaimState, ClaimVerdict
from headgate.kit.clock import Clock
from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import HotStatement, build_insert
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.failpoint import failpoint

KEPT_SECONDS = 86_400
RUNS_MAX = 2
"""How often a request may run whose outcome nobody knows."""
PRUNED_AT_ONCE = 1_000

CLAIMS = sa.Table(
    "idempotency_claims",
    METADATA,
    sa.Column("id", sa.LargeBinary(32), primary_key=True),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary(32)),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("runs", sa.Integer, nullable=False),
    sa.Column("lease_until", sa.Double, nullable=False),
    sa.Column("answer", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False, index=True),
)
RUNNING = "running"
_BY_ID: Any = sa.select(CLAIMS).where(CLAIMS.c.id == sa.bindparam("claim"))
_FIND = HotStatement(_BY_ID, "claim")
_INSERT = build_insert(CLAIMS)
_END = HotStatement(
    sa.update(CLAIMS)
    .values(
        digest=sa.func.coalesce(sa.bindparam("new_digest", type_=sa.LargeBinary), CLAIMS.c.digest),
        state=sa.bindparam("new_state"),
        lease_until=sa.bindparam("new_lease"),
        answer=sa.bindparam("new_answer"),
    )
    .where(
        CLAIMS.c.id == sa.bindparam("claim"),
        CLAIMS.c.owner == sa.bindparam("of_owner"),
        CLAIMS.c.state == sa.bindparam("of_state"),
    ),
    *("new_digest", "new_state", "new_lease", "new_answer", "claim", "of_owner", "of_state"),
)
FOUND = {
    ClaimEnding.ANSWERED.value: ClaimState.ANSWERED,
    ClaimEnding.UNSTORED.value: ClaimState.UNSTORED,
}

log = structlog.get_logger(__name__)


class StoredClaim(NamedTuple):
    """Hold a row of the table, in the order of its columns."""

    id: bytes
    organization_id: str
    digest: bytes | None
    owner: str
    previous: str
    state: str
    runs: int
    lease_until: float
    answer: bytes
    created_at: float


class ClaimsFullError(HeadgateError):
    """The table of idempotency keys is full, so no further one is accepted.

    Send the request without `Idempotency-Key`, or raise HEADGATE_IDEMPOTENCY_KEYS_MAX.
    """

    kind = Kind.UNAVAILABLE
    code = "idempotency_store_full"


class ClaimStore:
    """Implement `Claims` on the writer.

    A claim is dead once its lease ran out: then its process did not extend it. `keys_max` bounds
    the rows, and `bytes_max` the answers; an answer beyond it is not kept.
    """

    def __init__(
        self,
        writer: Writer,
        clock: Clock,
        *,
        lease_seconds: float = 60.0,
        keys_max: int = 1_000_000,
        bytes_max: int = 1 << 30,
    ) -> None:
        self.writer = writer
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._keys_max = keys_max
        self._bytes_max = bytes_max
        self._running: dict[bytes, str] = {}
        """What this process runs: the ids and owners whose leases it extends."""
        self.keys = 0
        self.stored_bytes = 0
        # As with holds: if a power failure loses a claim, its call is lost before its answer.
        self._acquire_queue = writer.create_queue(
            self._acquire_all,
            durable=False,
            lock_name=lambda request: f"claim:{request.id.hex()}",
        )

    def acquire(self, request: ClaimRequest) -> Awaitable[Claimed]:
        return self._acquire_queue.put(request)

    def release(self, verdict: ClaimVerdict) -> None:
        self.forget(verdict.id)
        released = self.writer.call(lambda connection: self.end(connection, verdict))
        released.add_done_callback(_report_failure)

    def track(self, request: ClaimRequest) -> None:
        """Extend the lease of a claim from now on, until `forget`."""
        self._running[request.id] = request.owner

    def forget(self, claim_id: bytes) -> None:
        self._running.pop(claim_id, None)

    def end(self, connection: sa.Connection, verdict: ClaimVerdict) -> None:
        """End a run in a transaction of the writer. A claim that another run took over stays as it
        is."""
        ending, answer = verdict.ending, verdict.answer
        if ending is ClaimEnding.FREED:
            self._free(connection, verdict)
            return
        state = ending.value
        if ending is ClaimEnding.ANSWERED and self.stored_bytes + len(answer) > self._bytes_max:
            state, answer = ClaimEnding.UNSTORED.value, b""
        own = (verdict.id, verdict.owner, RUNNING)
        if _END.run(connection, (verdict.digest, state, 0.0, answer, *own)):
            self.stored_bytes += len(answer)

    def _free(self, connection: sa.Connection, verdict: ClaimVerdict) -> None:
        own = (CLAIMS.c.id == verdict.id, CLAIMS.c.owner == verdict.owner)
        own = (*own, CLAIMS.c.state == RUNNING)
        if not verdict.previous:
            connection.execute(sa.delete(CLAIMS).where(*own))
            return
        # What is known of the claim is what was known before this run.
        values: dict[str, object] = {
            "state": ClaimEnding.UNKNOWN.value,
            "lease_until": 0.0,
            "owner": verdict.previous,
            "previous": "",
            "runs": 1,
        }
        if verdict.digest is not None:
            values["digest"] = verdict.digest
        connection.execute(sa.update(CLAIMS).where(*own).values(values))

    async def extend(self) -> None:
        """Extend the leases of what this process runs."""
        running = [{"of_id": key, "of_owner": owner} for key, owner in self._running.items()]
        if not running:
            return
        statement = (
            sa.update(CLAIMS)
            .where(
                CLAIMS.c.id == sa.bindparam("of_id"),
                CLAIMS.c.owner == sa.bindparam("of_owner"),
                CLAIMS.c.state == RUNNING,
            )
            .values(lease_until=self._clock.now() + self._lease_seconds)
        )
        await self.writer.call(lambda connection: connection.execute(statement, running))

    async def resolve_abandoned(self) -> int:
        """End the runs of dead processes if this is the only process. Return how many."""
        return await self.writer.call(self._resolve_abandoned)

    async def prune(self) -> int:
        """Delete what is no longer kept, and count the rest. Return how many were deleted."""
        deleted = 0
        while some := await self.writer.call(self._prune_some):
            deleted += some
        await self.writer.call(self._count)
        return deleted

    def _resolve_abandoned(self, connection: sa.Connection) -> int:
        if not self.writer.is_alone(connection):
            return 0
        statement = sa.update(CLAIMS).where(CLAIMS.c.state == RUNNING)
        unknown = {"state": ClaimEnding.UNKNOWN.value, "lease_until": 0.0}
        return connection.execute(statement.values(unknown)).rowcount

    def _prune_some(self, connection: sa.Connection) -> int:
        now = self._clock.now()
        old = (
            sa.select(CLAIMS.c.id)
            .where(CLAIMS.c.created_at <= now - KEPT_SECONDS, CLAIMS.c.lease_until <= now)
            .limit(PRUNED_AT_ONCE)
        )
        return connection.execute(sa.delete(CLAIMS).where(CLAIMS.c.id.in_(old))).rowcount

    def _count(self, connection: sa.Connection) -> None:
        size = sa.func.coalesce(sa.func.sum(sa.func.length(CLAIMS.c.answer)), 0)
        row = connection.execute(sa.select(sa.func.count(), size).select_from(CLAIMS)).one()
        self.keys, self.stored_bytes = int(row[0]), int(row[1])

    def _acquire_all(
        self, connection: sa.Connection, requests: Sequence[ClaimRequest]
    ) -> Sequence[Claimed | Exception]:
        return [self._acquire(connection, request) for request in requests]

    def _acquire(self, connection: sa.Connection, request: ClaimRequest) -> Claimed | Exception:
        now = self._clock.now()
        row = next((StoredClaim(*each) for each in _FIND.fetch(connection, (request.id,))), None)
        if (
            row is not None
            and row.created_at <= now - KEPT_SECONDS
            and not (row.state == RUNNING and row.lease_until > now)
        ):
            connection.execute(sa.delete(CLAIMS).where(CLAIMS.c.id == request.id))
            row = None
        if row is None:
            return self._insert(connection, request, now)
        if None not in (request.digest, row.digest) and request.digest != row.digest:
            return Claimed(ClaimState.REUSED, row.owner)
        found = FOUND.get(row.state)
        if row.state == RUNNING and row.lease_until > now:
            found = ClaimState.RUNNING
        elif found is None and row.runs >= RUNS_MAX:
            found = ClaimState.EXHAUSTED
        if found is not None:
            return Claimed(found, row.owner, row.answer, row.digest, row.previous)
        values = {
            "owner": request.owner,
            "previous": row.owner,
            "state": RUNNING,
            "runs": row.runs + 1,
            "lease_until": now + self._lease_seconds,
        }
        connection.execute(sa.update(CLAIMS).where(CLAIMS.c.id == request.id).values(values))
        return Claimed(ClaimState.ACQUIRED, request.owner, b"", row.digest, row.owner)

    def _insert(
        self, connection: sa.Connection, request: ClaimRequest, now: float
    ) -> Claimed | Exception:
        if self.keys >= self._keys_max:
            return ClaimsFullError(
                f"{self.keys} idempotency keys are kept, and HEADGATE_IDEMPOTENCY_KEYS_MAX allows "
                "no more. Nothing was sent. Send the request without Idempotency-Key, or later.",
                should_retry=False,
            )
        lease_until = now + self._lease_seconds
        claim = (request.id, request.organization_id, request.digest, request.owner, "")
        _INSERT.run(connection, (*claim, RUNNING, 1, lease_until, b"", now))
        self.keys += 1
        failpoint("claim_inserted")
        return Claimed(ClaimState.ACQUIRED, request.owner)


def _report_failure(released: asyncio.Future[None]) -> None:
    """Log a release that was not stored: its lease runs out by itself."""
    if not released.cancelled() and (error := released.exception()) is not None:
        log.warning("idempotency.unreleased", error=str(error))
