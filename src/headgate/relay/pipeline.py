"""Run one model call: admit, route, hold, send, transfer, settle.

Every handler and feature that calls a model uses it, so that none can forget a limit, a meter or a
bill. Whatever happens after admission ends in exactly one receipt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, drop_trace
from headgate.kit.failpoint import failpoint
from headgate.llm.request import JsonRequest
from headgate.llm.usage import ParsedUsage
from headgate.relay.admission import Admission
from headgate.relay.backend import Backend, ReceiptObserver
from headgate.relay.background import BackgroundCalls
from headgate.relay.balancing import Balancer
from headgate.relay.call import Call, Caller
from headgate.relay.call_state import CallState, InternalError, ReceiptNotRecordedError
from headgate.relay.capacity import NO_CAPACITY, CapacityGate
from headgate.relay.client_response import ClientResponse, ResponseEncoder, ResponseFactory
from headgate.relay.disconnects import DisconnectHandler, Drains
from headgate.relay.fallback import Fallback
from headgate.relay.ports import Hold, ModelCatalog, Receipt, Settlement
from headgate.relay.pricing import price_call
from headgate.relay.receipts import MICROSECONDS, build_receipt
from headgate.relay.request_log import RouteObserver
from headgate.relay.reservation import Reservation
from headgate.relay.resource_router import NO_RESOURCES, ResourceRouter
from headgate.relay.routing import Routing

log = structlog.get_logger(__name__)


class CallPipeline:
    """Run calls from admission to their receipt. It holds no state of a call itself."""

    def __init__(
        self,
        *,
        admission: Admission,
        routing: Routing,
        reservation: Reservation,
        upstream: Backend,
        responses: ResponseFactory,
        models: ModelCatalog,
        settlement: Settlement,
        drains: Drains,
        observer: ReceiptObserver,
        clock: Clock,
        background: BackgroundCalls | None = None,
        route_observer: RouteObserver | None = None,
        capacity: CapacityGate = NO_CAPACITY,
        resources: ResourceRouter = NO_RESOURCES,
        balancer: Balancer | None = None,
    ) -> None:
        self._admission = admission
        self._routing = routing
        self._reservation = reservation
        self._upstream = upstream
        self._responses = responses
        self._models = models
        self._settlement = settlement
        self._drains = drains
        self._observer = observer
        self._clock = clock
        self._background = background
        self._route_observer = route_observer
        self._capacity = capacity
        self._resources = resources
        self._fallback = Fallback(
            routing=routing,
            reservation=reservation,
            upstream=upstream,
            responses=responses,
            models=models,
            settlement=settlement,
            observer=observer,
            capacity=capacity,
            balancer=balancer or Balancer(clock),
            clock=clock,
        )

    async def run(self, call: Call, caller: Caller, encoder: ResponseEncoder) -> None:
        """Answer one call. Raise a `HeadgateError` if nothing has been sent to the caller yet."""
        # Nothing may be sent that cannot be recorded (law 1).
        self._settlement.check()
        # Without a function call for a project that has no resource.
        if call.route_options is not None or (
            call.model is not None
            and (call.grant.project_id in self._resources.projects or "/" in call.model)
        ):
            call.route = self._resources.route(call)
        self._admission.admit(call, caller)
        state = CallState(call, ParsedUsage(), caller=caller)
        disconnects = DisconnectHandler(caller, self._drains, call.grant.on_disconnect)
        response: ClientResponse | None = None
        error: HeadgateError | None = None
        receipt: Receipt | None = None
        try:
            # Without a function call, since every call passes here.
            if self._background is not None and (
                call.endpoint.of_response
                or (type(call.body) is JsonRequest and call.body.background)
            ):
                await self._background.begin(state)
            if call.route is not None:
                response = await self._fallback.open(state, caller, encoder, disconnects)
            else:
                self._routing.plan(state)
                # Also without a function call: most calls have no limits.
                if (
                    call.grant.capacity
                    or (state.credential is not None and state.credential.capacity)
                    or call.grant.project_id in self._capacity.projects
                ):
                    await self._capacity.admit(state)
                await self._reservation.hold(state)
                failpoint("after_hold")
                disconnects.start()
                failpoint("before_dispatch")
                answer = await self._upstream.send(state, disconnects.sleep)
                failpoint("first_byte")
                response = self._responses.create(state, answer, caller, encoder)
            disconnects.attach(response)
            await response.transfer()
        # A bug of the gateway must not lose the receipt, nor the money that is held.
        except (Exception, asyncio.CancelledError) as cause:  # noqa: BLE001 - `_end_early` logs it
            error = self._end_early(state, cause, disconnects)
        finally:
            disconnects.stop()
            self._admission.release(call)
        # The place is free again before the settlement: a slow database must not block new calls.
        try:
            receipt = await self._settle(state, None if error else response)
        except ReceiptNotRecordedError as unrecorded:
            error = error or drop_trace(unrecorded)
        else:
            if error is None and response is not None:
                failpoint("before_last_frame")
                await response.complete(receipt)
                failpoint("after_last_frame")
                return
        assert error is not None
        if response is None or not response.has_started:
            error.attempts = state.attempts
            try:
                raise error
            finally:
                del error  # its traceback has this frame, which must not have it
        response.fail(error, receipt)

    def _end_early(
        self, state: CallState, cause: BaseException, disconnects: DisconnectHandler
    ) -> HeadgateError:
        """Record why the call ended early, and return the error for the caller."""
        now = self._clock.monotonic()
        if not isinstance(cause, HeadgateError | asyncio.CancelledError):
            request_id = state.call.request_id
            log.error("pipeline.fault", request_id=request_id, exc_info=cause)
            cause = InternalError.for_request(request_id)
        return drop_trace(state.end_early(cause, disconnected=disconnects.disconnected, now=now))

    async def _settle(self, state: CallState, response: ClientResponse | None) -> Receipt:
        """Record the call's one receipt, then tell the observers. `response` is the complete
        answer, None without one. Raise `ReceiptNotRecordedError`."""
        now = self._clock.now()
        charge = price_call(state, self._models, now)
        ended_at = self._clock.monotonic()
        receipt = build_receipt(state, charge, created_at=now, ended_at=ended_at)
        if state.call.tokens_reserved:
            self._admission.settle(state.call, receipt)
        if state.capacity is not None:
            self._capacity.settle(state, receipt)
        claim = state.call.claim
        record = self._settlement.record if claim is None else claim.bind(response)
        failpoint("before_settle")
        try:
            if state.is_background and self._background is not None:
                receipt = await self._background.finish(state, receipt)
            is_first = await record(receipt, state.hold)
        except asyncio.CancelledError:
            # The server stops in the middle of a commit. What was queued is recorded all the same,
            # and recording is idempotent: so the answer is complete, and may be sent.
            is_first = await self._record_again(record, receipt, state)
        # Whatever the reason: an answer that is not recorded is withheld, and its receipt kept.
        except Exception as cause:
            raise self._defer(receipt, state) from cause
        # A response in the background is observed once, with its end.
        if receipt.outcome != "pending" and is_first is not False:
            elapsed = self._clock.monotonic() - ended_at
            self._observer.observe(receipt, int(elapsed * MICROSECONDS))
        call = state.call
        if call.record is not None:
            call.record.settle(state, receipt)
        if call.route is not None and self._route_observer is not None:
            self._route_observer.observe(state, receipt)
        return receipt

    async def _record_again(
        self,
        record: Callable[[Receipt, Hold | None], Awaitable[bool | None]],
        receipt: Receipt,
        state: CallState,
    ) -> bool | None:
        try:
            is_first = await record(receipt, state.hold)
        except Exception as cause:
            raise self._defer(receipt, state) from cause
        task = asyncio.current_task()
        assert task is not None, "a call is carried by a task"
        # The cancellation is used up: the rest of the answer must still be sent.
        task.uncancel()
        return is_first

    def _defer(self, receipt: Receipt, state: CallState) -> ReceiptNotRecordedError:
        self._settlement.defer(state.mark_unrecorded(receipt), state.hold)
        return ReceiptNotRecordedError.for_request(receipt.request_id)
