"""Trials of credentials by a server: bounded in their rate, metered, and recorded as every call.

A trial does not travel the journey (decision 0015): it is one call without retries, on a credential
that may be nowhere in the vault, and it is judged, not passed on. Its receipt is that of a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Client
from headgate.kit.ids import Ids
from headgate.llm.endpoint import Body, Endpoint, Pricing
from headgate.llm.usage import Reading
from headgate.llm.wire import chat
from headgate.relay.call import Call
from headgate.relay.ports import Credential, Grant, Models, Receipt, Settlement
from headgate.relay.rates import RateLimited, Rates
from headgate.relay.trip import Trip, assess, write_receipt
from headgate.vault.model import TestCall
from headgate.vault.service.trial import Attempt, Trial, attempt

ENDPOINT = "credentials.test"
"""What a trial is called in receipts and metrics."""


class TrialsTooMany(HeadgateError):
    """The organization has tried credentials too often: a gate is no place to guess keys at."""

    kind = Kind.LIMITED
    code = "rate_limited"


class Trials:
    """Tries credentials for organizations. One instance holds the rates of one process."""

    def __init__(
        self,
        client: Client,
        *,
        settlement: Settlement,
        models: Models,
        observe: Callable[[Receipt, int], None],
        clock: Clock,
        ids: Ids,
        per_minute: int,
    ) -> None:
        self._client = client
        self._settlement = settlement
        self._models = models
        self._observe = observe
        self._clock = clock
        self._ids = ids
        self._per_minute = per_minute
        self._rates = Rates(clock)

    def admit(self, organization_id: str) -> None:
        """Count one more. Raises `TrialsTooMany`."""
        allowed = Grant(organization_id, organization_id, "", requests_per_minute=self._per_minute)
        try:
            self._rates.take(allowed)
        except RateLimited as error:
            raise TrialsTooMany(
                f"Credentials may be tried {self._per_minute} times a minute. "
                f"Try again in {error.retry_after_seconds:.0f} seconds.",
                retry_after_seconds=error.retry_after_seconds,
            ) from error

    async def run(
        self, credential: Credential, call: TestCall, *, organization_id: str, key_id: str
    ) -> Trial:
        """Make the call of an admitted trial, and record what it used; `key_id` is that of the key
        that asked, empty for a person. Raises a `HeadgateError` of kind UNAVAILABLE while nothing
        can be recorded."""
        self._settlement.check()
        trip = begin_trip(self._ids.make("req"), credential, call, owner=(organization_id, key_id))
        trip.call.started_at = trip.sent_at = self._clock.monotonic()
        try:
            made = await attempt(self._client, credential, call)
        except asyncio.CancelledError:
            trip.outcome, trip.error_code = "cancelled", "gateway_stopping"
            self._settlement.defer(self._write(trip), None)
            raise
        trip.first_byte_at = trip.answered_at = self._clock.monotonic()
        end_trip(trip, made)
        receipt = self._write(trip)
        await self._settlement.record(receipt, None)
        self._observe(receipt, 0)
        return made.trial

    def _write(self, trip: Trip) -> Receipt:
        return close_trip(trip, self._models, self._clock)


def begin_trip(
    request_id: str, credential: Credential, call: TestCall, *, owner: tuple[str, str]
) -> Trip:
    """A trial as a call of the organization and key of `owner`, as far as its receipt goes."""
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
    return Trip(made, Reading(), credential=credential, attempts=1, was_sent=True)


def end_trip(trip: Trip, made: Attempt) -> None:
    """What became of it."""
    trip.status = made.trial.status
    trip.attempts = made.calls
    if made.error is not None:
        trip.was_sent = made.error.sent
        trip.first_byte_at = trip.answered_at = 0.0
        trip.outcome = "unknown" if trip.was_sent else "upstream_error"
        trip.error_code = "provider_unreachable"
        trip.status = Kind.UPSTREAM.value
        return
    readable = trip.call.endpoint.meter.read_body(made.body, trip.reading)
    is_answer = readable and trip.status < 400
    trip.was_sent = is_answer
    trip.outcome = "completed" if is_answer else "upstream_error"
    if not made.trial.is_valid or not is_answer:
        untold = "provider_error" if made.trial.is_valid is None else "credential_invalid"
        trip.error_code = trip.reading.error_code or untold


def close_trip(trip: Trip, models: Models, clock: Clock) -> Receipt:
    """The receipt."""
    now = clock.now()
    return write_receipt(
        trip, assess(trip, models, now), created_at=now, ended_at=clock.monotonic()
    )
