"""Record a call with an idempotency key: its receipt, its money and its answer together."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import sqlalchemy as sa
import structlog

from headgate.billing.service.ledger import Ledger
from headgate.kit.claims import ClaimEnding, ClaimVerdict
from headgate.kit.db.claim_store import ClaimStore
from headgate.kit.failpoint import failpoint
from headgate.relay.ports import Hold, Receipt

log = structlog.get_logger(__name__)

ClaimedCall = tuple[Receipt, Hold | None, ClaimVerdict]


class ClaimedCalls:
    """Implement `ClaimedSettlement` on the queues of the database writer."""

    def __init__(self, ledger: Ledger, claims: ClaimStore) -> None:
        self._ledger = ledger
        self._claims = claims
        # A power failure must not lose an answer that a client waits for, also on an own key.
        self._queue = claims.writer.create_queue(
            self._record_all, durable=True, lock_name=lambda call: call[0].organization_id
        )

    def record_claimed(
        self, receipt: Receipt, hold: Hold | None, verdict: ClaimVerdict
    ) -> Awaitable[bool | None]:
        """Store receipt, ledger entries and answer, exactly once for each request. Raise as
        `Ledger.record`."""
        self._ledger.end_lease(receipt.request_id)
        return self._queue.put((receipt, hold, verdict))

    def waive(self, request_id: str, *, billed_as: str) -> Awaitable[None]:
        """Charge nothing for the first of two runs if the second is charged."""
        return self._claims.writer.call(
            lambda connection: self._waive(connection, request_id, billed_as)
        )

    def _waive(self, connection: sa.Connection, request_id: str, billed_as: str) -> None:
        # One key is billed once: the later run stands, whatever it was charged.
        if self._ledger.waive(connection, request_id):
            log.info("idempotency.waived", request_id=request_id, billed_as=billed_as)

    def _record_all(
        self, connection: sa.Connection, calls: Sequence[ClaimedCall]
    ) -> Sequence[bool | None]:
        ended = self._ledger.record_in(connection, [(receipt, hold) for receipt, hold, _ in calls])
        failpoint("mid_claim")
        for receipt, _, verdict in calls:
            self._claims.end(connection, verdict)
            if verdict.previous and verdict.ending is not ClaimEnding.FREED and receipt.cost_nano:
                self._waive(connection, verdict.previous, verdict.owner)
        return ended
