"""Tests credentials in a server: limited in rate, metered, and recorded with a receipt.

A test bypasses the call pipeline (decision 0015): it is one call without retries, on a credential
that may not be stored at all, and its answer is judged instead of passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headgate.credentials.model.integration import CredentialTestCall
from headgate.credentials.service.testing import (
    CredentialTestOutcome,
    CredentialTestResult,
    send_test_call,
)
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Client
from headgate.kit.ids import IdGenerator
from headgate.kit.rate_limiter import RateLimitedError, RateLimiter
from headgate.llm.endpoint import Body, Endpoint, Pricing
from headgate.llm.usage import ParsedUsage
from headgate.llm.wire import chat
from headgate.relay.call import Call
from headgate.relay.call_state import CallState
from headgate.relay.ports import Credential, Grant, ModelCatalog, Receipt, Settlement
from headgate.relay.pricing import price_call
from headgate.relay.receipts import build_receipt

ENDPOINT = "credentials.test"
"""The endpoint of credential tests in receipts and metrics."""


class TooManyCredentialTestsError(HeadgateError):
    """The organization has tested credentials too often within a minute.

    Wait for the seconds in `Retry-After`.
    """

    kind = Kind.LIMITED
    code = "rate_limited"


class CredentialTester:
    """Test credentials for organizations. Rates are counted per process."""

    def __init__(
        self,
        client: Client,
        *,
        settlement: Settlement,
        models: ModelCatalog,
        observe: Callable[[Receipt, int], None],
        clock: Clock,
        ids: IdGenerator,
        per_minute: int,
    ) -> None:
        self._client = client
        self._settlement = settlement
        self._models = models
        self._observe = observe
        self._clock = clock
        self._ids = ids
        self._per_minute = per_minute
        self._rate_limiter = RateLimiter(clock)

    def admit(self, organization_id: str) -> None:
        """Count one test. Raise `TooManyCredentialTestsError` above the rate."""
        allowed = Grant(organization_id, organization_id, "", requests_per_minute=self._per_minute)
        try:
            self._rate_limiter.take(allowed)
        except RateLimitedError as error:
            raise TooManyCredentialTestsError(
                f"Credentials can be tested {self._per_minute} times a minute. "
                f"Try again in {error.retry_after_seconds:.0f} seconds.",
                retry_after_seconds=error.retry_after_seconds,
            ) from error

    async def run(
        self, credential: Credential, call: CredentialTestCall, *, organization_id: str, key_id: str
    ) -> CredentialTestResult:
        """Make the call of an admitted test, and record its receipt.

        `key_id` is the API key of the request, empty for a signed-in person. Raise a
        `HeadgateError` of kind UNAVAILABLE while nothing can be recorded.
        """
        self._settlement.check()
        state = begin_state(
            self._ids.make("req"), credential, call, owner=(organization_id, key_id)
        )
        state.call.started_at = state.sent_at = self._clock.monotonic()
        try:
            made = await send_test_call(self._client, credential, call)
        except asyncio.CancelledError:
            state.outcome, state.error_code = "cancelled", "gateway_stopping"
            self._settlement.defer(self._write(state), None)
            raise
        state.first_byte_at = state.answered_at = self._clock.monotonic()
        end_state(state, made)
        receipt = self._write(state)
        await self._settlement.record(receipt, None)
        self._observe(receipt, 0)
        return made.result

    def _write(self, state: CallState) -> Receipt:
        return close_state(state, self._models, self._clock)


def begin_state(
    request_id: str, credential: Credential, call: CredentialTestCall, *, owner: tuple[str, str]
) -> CallState:
    """Build the state of a test, as its receipt needs it. `owner` is organization and key."""
    pricing = Pricing.FREE if call.method == "GET" else Pricing.USAGE
    endpoint = Endpoint(ENDPOINT, (call.method,), call.path, chat.METER, Body.JSON, pricing)
    model = call.body.get("model")
    made = Call(
        request_id,
        Grant(key_id=owner[1], organization_id=owner[0], project_id=""),
        endpoint,
        call.method,
        call.path.encode(),
        b"",
        [],
        b"",
        0.0,
        model if isinstance(model, str) else None,
    )
    return CallState(made, ParsedUsage(), credential=credential, attempts=1, was_sent=True)


def end_state(state: CallState, made: CredentialTestOutcome) -> None:
    """Set the outcome of a test."""
    state.status = made.result.status
    state.attempts = made.calls
    if made.error is not None:
        state.was_sent = made.error.sent
        state.first_byte_at = state.answered_at = 0.0
        state.outcome = "unknown" if state.was_sent else "upstream_error"
        state.error_code = "provider_unreachable"
        state.status = Kind.UPSTREAM.value
        return
    readable = state.call.endpoint.meter.read_body(made.body, state.parsed_usage)
    is_answer = readable and state.status < 400
    state.was_sent = is_answer
    state.outcome = "completed" if is_answer else "upstream_error"
    if not made.result.is_valid or not is_answer:
        default = "provider_error" if made.result.is_valid is None else "credential_invalid"
        state.error_code = state.parsed_usage.error_code or default


def close_state(state: CallState, models: ModelCatalog, clock: Clock) -> Receipt:
    now = clock.now()
    return build_receipt(
        state, price_call(state, models, now), created_at=now, ended_at=clock.monotonic()
    )
