"""The road of one model call: admit, route, hold, send, carry, settle.

Every handler and feature that calls a model goes this way, so none of them can forget a limit,
a meter or a bill. Whatever happens after admission ends in exactly one receipt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, drop_trace
from headgate.kit.failpoint import failpoint
from headgate.llm.usage import Reading
from headgate.relay.admission import Admission
from headgate.relay.attendance import Attendance, Drains
from headgate.relay.call import Call, Caller
from headgate.relay.delivery import Carriage, Delivery, Encoder
from headgate.relay.holding import Holding
from headgate.relay.ports import Models, Receipt, Settlement
from headgate.relay.routing import Routing
from headgate.relay.trip import (
    MICROSECONDS,
    InternalFault,
    Trip,
    Unrecorded,
    assess,
    write_receipt,
)
from headgate.relay.upstream import Answer

log = structlog.get_logger(__name__)


class Observer(Protocol):
    """Hears of every settled call."""

    def observe(self, receipt: Receipt, settlement_microseconds: int) -> None:
        """After the commit, with the time that it took; must not raise, and must be cheap."""
        ...


class Sender(Protocol):
    """Where the answer comes from: `Upstream`, or what stands before it and may know it already."""

    def send(
        self, trip: Trip, rest: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> Awaitable[Answer]:
        """See `Upstream.send`."""
        ...


class Journey:
    """Carries calls. Everything it needs is handed in; it holds no state of a call itself."""

    def __init__(
        self,
        *,
        admission: Admission,
        routing: Routing,
        holding: Holding,
        upstream: Sender,
        carriage: Carriage,
        models: Models,
        settlement: Settlement,
        drains: Drains,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._admission = admission
        self._routing = routing
        self._holding = holding
        self._upstream = upstream
        self._carriage = carriage
        self._models = models
        self._settlement = settlement
        self._drains = drains
        self._observer = observer
        self._clock = clock

    async def travel(self, call: Call, caller: Caller, encoder: Encoder) -> None:
        """Answer one call. Raises a `HeadgateError` where nothing has reached the caller yet."""
        self._settlement.check()
        self._admission.admit(call, caller)
        trip = Trip(call, Reading(), caller=caller)
        attendance = Attendance(caller, self._drains, call.grant.on_disconnect)
        delivery: Delivery | None = None
        error: HeadgateError | None = None
        receipt: Receipt | None = None
        try:
            self._routing.plan(trip)
            if trip.body is not call.body:
                trip.hold_copies()
            await self._holding.hold(trip)
            failpoint("after_hold")
            attendance.begin()
            failpoint("before_dispatch")
            answer = await self._upstream.send(trip, attendance.rest)
            failpoint("first_byte")
            delivery = self._carriage.open(trip, answer, caller, encoder)
            attendance.steer(delivery)
            await delivery.carry()
        except (HeadgateError, asyncio.CancelledError) as cause:
            now = self._clock.monotonic()
            error = drop_trace(trip.give_up(cause, left=attendance.left, now=now))
        # A fault of ours must not lose the receipt, nor the money that is held.
        except Exception:
            log.exception("journey.fault", request_id=call.request_id)
            fault = InternalFault.of(call.request_id)
            error = trip.give_up(fault, left=attendance.left, now=self._clock.monotonic())
        finally:
            attendance.end()
            self._admission.release(call)
        try:
            receipt = await self._settle(trip)
        except Unrecorded as unrecorded:
            error = error or drop_trace(unrecorded)
        else:
            if error is None and delivery is not None:
                failpoint("before_last_frame")
                await delivery.deliver(receipt)
                failpoint("after_last_frame")
                return
        assert error is not None
        if delivery is None or not delivery.begun:
            error.attempts = trip.attempts
            try:
                raise error
            finally:
                del error  # its traceback has this frame, which must not have it
        delivery.break_off(error, receipt)

    async def _settle(self, trip: Trip) -> Receipt:
        """Make the call's one receipt durable, then tell the observers. Raises Unrecorded."""
        now = self._clock.now()
        charge = assess(trip, self._models, now)
        ended_at = self._clock.monotonic()
        receipt = write_receipt(trip, charge, created_at=now, ended_at=ended_at)
        if trip.call.tokens_reserved:
            self._admission.settle(trip.call, receipt)
        failpoint("before_settle")
        try:
            await self._settlement.record(receipt, trip.hold)
        except asyncio.CancelledError:
            # A server that stops, in mid-commit. What was queued is recorded all the same, and a
            # second time changes nothing: the answer is whole, and may leave.
            await self._record_again(receipt, trip)
        # Whatever it was: an answer that is not recorded does not leave, and is not forgotten.
        except Exception as cause:
            raise self._defer(receipt, trip) from cause
        elapsed = self._clock.monotonic() - ended_at
        self._observer.observe(receipt, int(elapsed * MICROSECONDS))
        return receipt

    async def _record_again(self, receipt: Receipt, trip: Trip) -> None:
        try:
            await self._settlement.record(receipt, trip.hold)
        except Exception as cause:
            raise self._defer(receipt, trip) from cause
        task = asyncio.current_task()
        assert task is not None, "a call is carried by a task"
        task.uncancel()

    def _defer(self, receipt: Receipt, trip: Trip) -> Unrecorded:
        self._settlement.defer(trip.lose(receipt), trip.hold)
        return Unrecorded.of(receipt.request_id)
