"""Receipts of calls that leave through a connector or to another MCP server, and cost nothing
here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from headgate.connectors.model.caller import ToolCaller
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.ports import Receipt, Settlement

CONNECTOR_HTTP = "connector.http"
MCP_TOOL = "mcp.tool"
"""The endpoints of these calls, in receipts and metrics."""
MICROSECONDS = 1_000_000
CANCELLED_STATUS = Kind.TIMEOUT.value
"""As the pipeline has it for clients that disconnected."""


class OutgoingCall(msgspec.Struct, kw_only=True):
    """Hold what one call did, while it runs. Times are monotonic seconds, 0 for what did not
    happen. `outcome` and `error_code` are those of `relay.ports.Receipt`."""

    request_id: str
    endpoint: str
    method: str
    provider: str
    """The connector, or the name of the server."""
    tool: str
    started_at: float
    credential_id: str | None = None
    answered_at: float = 0.0
    status: int = 0
    outcome: str = "unknown"
    error_code: str | None = None
    attempts: int = 1
    request_bytes: int = 0
    response_bytes: int = 0
    correlation_id: str | None = None

    def complete(self, status: int, response_bytes: int, answered_at: float) -> None:
        """Note the answer of the other side."""
        self.status, self.response_bytes, self.answered_at = status, response_bytes, answered_at
        self.outcome = "completed" if status < 400 else "upstream_error"
        self.error_code = None if status < 400 else "provider_error"

    def fail(self, status: int, error_code: str, *, was_sent: bool = True) -> None:
        """Note that there is no answer."""
        self.status, self.error_code = status, error_code
        self.outcome = "unknown" if was_sent else "upstream_error"


class ActionReceipts:
    """Record what calls of tools used, beside the calls to models."""

    def __init__(
        self, settlement: Settlement, clock: Clock, observe: Callable[[Receipt, int], None]
    ) -> None:
        self._settlement = settlement
        self._clock = clock
        self._observe = observe
        self._tasks: set[asyncio.Task[None]] = set()

    def check(self) -> None:
        """Raise a `HeadgateError` of kind UNAVAILABLE while nothing can be recorded, so that
        nothing is sent."""
        self._settlement.check()

    async def record(self, caller: ToolCaller, call: OutgoingCall) -> None:
        """Record a call that has ended; committed on return. Raise a `HeadgateError` of kind
        UNAVAILABLE."""
        receipt = self._build(caller, call)
        await self._settlement.record(receipt, None)
        self._observe(receipt, 0)

    def defer(self, caller: ToolCaller, call: OutgoingCall) -> None:
        """Record a call whose caller is gone, without waiting for it."""
        call.status, call.outcome, call.error_code = CANCELLED_STATUS, "cancelled", "caller_left"
        receipt = self._build(caller, call)
        task = asyncio.get_running_loop().create_task(self._store(receipt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _store(self, receipt: Receipt) -> None:
        try:
            await self._settlement.record(receipt, None)
        except (HeadgateError, asyncio.CancelledError):
            # It is recorded as soon as that is possible: behind this, or at the next start.
            self._settlement.defer(receipt, None)
        else:
            self._observe(receipt, 0)

    def _build(self, caller: ToolCaller, call: OutgoingCall) -> Receipt:
        ended_at = self._clock.monotonic()
        grant = caller.grant
        total = ended_at - call.started_at
        upstream = call.answered_at - call.started_at if call.answered_at else 0.0
        return Receipt(
            request_id=call.request_id,
            created_at=self._clock.now(),
            organization_id=grant.organization_id,
            project_id=grant.project_id,
            key_id=grant.key_id,
            credential_id=call.credential_id,
            managed=False,
            endpoint=call.endpoint,
            method=call.method,
            provider=call.provider,
            model_requested=None,
            model_served=None,
            answer_id=None,
            upstream_request_id=None,
            correlation_id=call.correlation_id,
            status=call.status,
            outcome=call.outcome,
            error_code=call.error_code,
            streamed=False,
            usage=None,
            estimated=False,
            service_tier=None,
            pricing="free",
            unpriced_reason=None,
            price_id=None,
            cost_nano=0,
            attempts=call.attempts,
            first_byte_microseconds=-1,
            upstream_microseconds=int(upstream * MICROSECONDS) if call.answered_at else -1,
            total_microseconds=int(total * MICROSECONDS),
            overhead_microseconds=int((total - upstream) * MICROSECONDS),
            path=call.endpoint,
            request_bytes=call.request_bytes,
            response_bytes=call.response_bytes,
            metadata=msgspec.json.encode({"tool": call.tool}).decode(),
        )
