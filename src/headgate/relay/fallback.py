"""Try the targets of a call in order, before the first byte of an answer reaches the client.

A target that fails gives back the money that was held for it. Where its provider may have charged
the attempt, that is settled at once, with a receipt of its own (`req_….a1`). The call's one receipt
is that of the target which answered, or of the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, drop_trace
from headgate.kit.failpoint import failpoint
from headgate.llm.redaction import redact_text
from headgate.llm.request import JsonRequest
from headgate.llm.usage import ParsedUsage
from headgate.relay.admission import ModelOutOfScopeError, is_in_scope, is_model_in_scope
from headgate.relay.backend import Backend, ReceiptObserver
from headgate.relay.balancing import Balancer, TargetAttempt, find_next
from headgate.relay.breaker import CircuitOpenError
from headgate.relay.call import Call, Caller
from headgate.relay.call_state import CallState, ClientDisconnectedError
from headgate.relay.capacity import CapacityGate
from headgate.relay.client_response import (
    ClientResponse,
    ResponseEncoder,
    ResponseFactory,
    find_secret,
)
from headgate.relay.disconnects import DisconnectHandler
from headgate.relay.ports import ModelCatalog, Receipt, Settlement
from headgate.relay.pricing import price_call
from headgate.relay.receipts import build_receipt
from headgate.relay.reservation import Reservation
from headgate.relay.routing import Routing
from headgate.relay.stream_start import wait_for_start
from headgate.relay.targets import FALLBACK, CallEvent, Target
from headgate.relay.upstream import (
    InvalidProviderResponseError,
    ProviderTimeoutError,
    ProviderUnreachableError,
    UpstreamResponse,
)

REASON_CHARACTERS_MAX = 200
PROVIDER_FAILURES = (
    CircuitOpenError,
    InvalidProviderResponseError,
    ProviderTimeoutError,
    ProviderUnreachableError,
)
KEPT_FIELDS = frozenset(
    {
        "call",
        "caller",
        "parsed_usage",
        "is_background",
        "background",
        "on_answer_id",
        "routed_target",
        "target_index",
        "failed_attempts",
        "failed_seconds",
        "events",
        "gate_seconds",
        "capacity",
    }
)
"""What a call keeps of its state when it goes on to its next target."""
FRESH: dict[str, Any] = {
    field.name: field.default
    for field in msgspec.structs.fields(CallState)
    if field.name not in KEPT_FIELDS
}


class ReadResponse:
    """Hold an answer that was read whole already (`ClientResponse`)."""

    has_started = False

    def __init__(self, response: ClientResponse) -> None:
        self._response = response

    async def transfer(self) -> None:
        """Do nothing: it was transferred."""

    async def complete(self, receipt: Receipt) -> None:
        await self._response.complete(receipt)

    def preview(self, receipt: Receipt) -> tuple[bytes, bytes]:
        return self._response.preview(receipt)

    def fail(self, error: HeadgateError, receipt: Receipt | None = None) -> None:
        self._response.fail(error, receipt)

    def pause(self) -> None:
        """Do nothing: a whole answer is written once."""

    def resume(self) -> None:
        """Do nothing: a whole answer is written once."""


class Fallback:
    """Carry calls that have a route to the first of their targets that answers.

    Any failure moves a call to its next target: what the gateway refuses as well as what a provider
    answers. It holds no state of a call itself.
    """

    def __init__(
        self,
        *,
        routing: Routing,
        reservation: Reservation,
        upstream: Backend,
        responses: ResponseFactory,
        models: ModelCatalog,
        settlement: Settlement,
        observer: ReceiptObserver,
        capacity: CapacityGate,
        balancer: Balancer,
        clock: Clock,
    ) -> None:
        self._routing = routing
        self._reservation = reservation
        self._upstream = upstream
        self._responses = responses
        self._models = models
        self._settlement = settlement
        self._observer = observer
        self._capacity = capacity
        self._balancer = balancer
        self._clock = clock

    async def open(
        self,
        state: CallState,
        caller: Caller,
        encoder: ResponseEncoder,
        disconnects: DisconnectHandler,
    ) -> ClientResponse:
        """Return the response of the first target that answers, or of the last one. Raise the
        `HeadgateError` of the last one."""
        call, route = state.call, state.call.route
        assert route is not None, "the pipeline looked"
        state.events += route.events
        named = call.credential_name
        attempts = self._balancer.spread(
            call.grant.organization_id, route.targets, call.correlation_id
        )
        disconnects.start()
        index = 0
        while True:
            begun_at = self._clock.monotonic()
            attempt = attempts[index]
            begin_target(state, attempt.target, index, named)
            failure: HeadgateError | None = None
            try:
                may_follow = index + 1 < len(attempts)
                response = await self._try(
                    state, caller, encoder, disconnects, attempt, may_follow=may_follow
                )
                following = find_following(state, attempts, index, None)
                if (
                    following is None
                    or disconnects.disconnected
                    or state.outcome != "upstream_error"
                ):
                    return response
            except HeadgateError as error:
                following = find_following(state, attempts, index, error)
                if following is None or disconnects.disconnected:
                    raise
                # Its traceback has this frame, which keeps it while the target is settled.
                failure = drop_trace(error)
            await self._leave(state, failure, begun_at)
            if disconnects.disconnected:
                raise ClientDisconnectedError("The client disconnected.")
            index = following

    async def _try(
        self,
        state: CallState,
        caller: Caller,
        encoder: ResponseEncoder,
        disconnects: DisconnectHandler,
        attempt: TargetAttempt,
        *,
        may_follow: bool,
    ) -> ClientResponse:
        """Send the call to one target; return what it answered, read whole if it is no stream. A
        stream has begun, if another target may follow."""
        call = state.call
        check_scope_of_target(call, self._models)
        self._routing.plan(state)
        if has_capacity(state, self._capacity):
            await self._pass_gate(state)
        await self._reservation.hold(state)
        failpoint("after_target_hold")
        answer = await self._send(state, disconnects, attempt)
        if may_follow:
            await wait_for_start(state, answer, find_secret(state))
        response = self._responses.create(state, answer, caller, encoder)
        if response.has_started:
            return response
        disconnects.attach(response)
        await response.transfer()
        return ReadResponse(response)

    async def _send(
        self, state: CallState, disconnects: DisconnectHandler, attempt: TargetAttempt
    ) -> UpstreamResponse:
        """Return the head of the provider's answer. Whether a target of several credentials works
        is remembered."""
        if not attempt.is_shared:
            return await self._upstream.send(state, disconnects.sleep)
        organization_id, target = state.call.grant.organization_id, attempt.target
        try:
            answer = await self._upstream.send(state, disconnects.sleep)
        except PROVIDER_FAILURES as error:
            self._balancer.fail(organization_id, target, status=error.kind.value)
            raise
        self._balancer.learn(organization_id, target, answer.status, answer.headers)
        return answer

    async def _pass_gate(self, state: CallState) -> None:
        began = self._clock.monotonic()
        try:
            await self._capacity.admit(state)
        finally:
            elapsed = self._clock.monotonic() - began
            state.gate_seconds = (state.gate_seconds or 0.0) + elapsed

    async def _leave(self, state: CallState, error: HeadgateError | None, begun_at: float) -> None:
        """Settle what the failed target may have charged, give back what is held, and note why the
        call goes on.

        Raise a `HeadgateError` of kind UNAVAILABLE: what cannot be recorded is not continued.
        """
        now = self._clock.monotonic()
        if error is not None:
            state.end_early(error, disconnected=False, now=now)
        event = self._describe(state, error)
        if has_capacity(state, self._capacity):
            self._capacity.leave(state, sent=state.attempts > 0)
        receipt = self._make_receipt(state, now)
        has_hold = state.hold is not None
        try:
            await self._reservation.release(state, receipt)
            if receipt is not None and not has_hold:
                await self._settlement.record(receipt, None)
        except asyncio.CancelledError:
            # The server stops. What was queued is recorded all the same.
            reset_state(state, event, now - begun_at)
            raise
        reset_state(state, event, now - begun_at)
        if receipt is not None:
            self._observer.observe(receipt, 0)

    def _make_receipt(self, state: CallState, now: float) -> Receipt | None:
        """Return the receipt of an attempt that its provider may have charged; None of another
        one."""
        created_at = self._clock.now()
        charge = price_call(state, self._models, created_at)
        if charge.usage is None and not charge.cost_nano:
            return None
        receipt = build_receipt(state, charge, created_at=created_at, ended_at=now)
        name = f"{receipt.request_id}.a{state.target_index + 1}"
        return replace(receipt, request_id=name)

    def _describe(self, state: CallState, error: HeadgateError | None) -> CallEvent:
        credential = state.credential
        reason = f"{state.status} {state.error_code or ''}".rstrip()
        if state.error_message:
            reason += f": {state.error_message}"
        if error is not None:
            reason = f"{error.code}: {error.message}"
        if credential is not None:
            # Before it is cut: the half of a key is not found.
            reason = redact_text(reason, credential.secret)
        return CallEvent(
            FALLBACK,
            self._clock.now(),
            failed_model=state.call.model or "",
            reason=reason[:REASON_CHARACTERS_MAX],
            failed_provider="" if credential is None else credential.integration,
            failed_credential_id=None if credential is None else credential.id,
            status=state.status,
            attempts=state.attempts,
            failed_credential="" if credential is None else credential.name,
        )


def find_following(
    state: CallState, attempts: Sequence[TargetAttempt], index: int, error: HeadgateError | None
) -> int | None:
    """Return the index of the attempt that follows a failed one; None where none can."""
    # A streamed body is gone after the first attempt.
    if not isinstance(state.call.body, JsonRequest | bytes):
        return None
    status = state.status if error is None else error.kind.value
    return find_next(attempts, index, status=status, sent=state.attempts > 0)


def begin_target(state: CallState, target: Target, index: int, named: str | None) -> None:
    """Make a target the one that the call is for. `named` is the credential that the caller named,
    for a target without one."""
    state.routed_target, state.target_index = target, index
    state.call.model = target.model
    state.call.credential_name = target.credential_name or named


def reset_state(state: CallState, event: CallEvent, seconds: float) -> None:
    """Forget what one target made of the call, but not that it was tried."""
    state.events += (event,)
    state.failed_attempts += state.attempts
    state.failed_seconds += seconds
    for name, value in FRESH.items():
        setattr(state, name, value)
    state.parsed_usage = ParsedUsage()


def has_capacity(state: CallState, gate: CapacityGate) -> bool:
    """Return whether a limit of the key, the resource or the credential counts the call."""
    call, credential = state.call, state.credential
    return credential is not None and bool(
        call.grant.capacity
        or (call.route is not None and call.route.capacity)
        or credential.capacity
        or call.grant.project_id in gate.projects
    )


def check_scope_of_target(call: Call, models: ModelCatalog) -> None:
    """Reject a target whose model the key may not use. A key that may use the resource by its name
    may use its models, as it is stored. Raise `ModelOutOfScopeError`."""
    allowed, route, options = call.grant.models, call.route, call.route_options
    if not allowed or is_model_in_scope(call.model, allowed, models):
        return
    is_changed = options is not None and options.overrides is not None
    is_named = route is not None and route.resource_id and is_in_scope(route.resource_name, allowed)
    if is_changed or not is_named:
        raise ModelOutOfScopeError(
            f"This key is limited to the models {', '.join(allowed)}; the resource sends the call "
            f"to `{call.model}`.",
            param="model",
        )
