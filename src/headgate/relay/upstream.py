"""Sends a call to its provider: attempts, deadlines, and what to make of a failure.

Nothing here touches the caller: whatever is retried is retried before the first byte of an answer
has been passed on (law 9).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import msgspec

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http import errors as egress
from headgate.kit.http.message import Client, Headers, Origin, Request, Response, Timeouts
from headgate.llm import errors as faults
from headgate.llm.request import JsonRequest
from headgate.relay.retry import RetryBudget, RetryPolicy, wait_seconds
from headgate.relay.trip import Trip

RETRIED_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
RETRIED_VERDICTS = frozenset({faults.Verdict.RATE, faults.Verdict.SERVER})
FAULT_BODY_BYTES_MAX = 1 << 20
STALE_RETRIES_MAX = 2


class ProviderUnreachable(HeadgateError):
    kind = Kind.UPSTREAM
    code = "provider_unreachable"


class ProviderBroken(HeadgateError):
    kind = Kind.UPSTREAM
    code = "provider_invalid_response"


class ProviderTimeout(HeadgateError):
    kind = Kind.UPSTREAM_TIMEOUT
    code = "provider_timeout"


class Answer(msgspec.Struct):
    """A provider's answer: its head, and a body that was read already (a fault) or is to be."""

    status: int
    headers: Headers
    response: Response
    body: bytes | None = None
    fault: faults.UpstreamFault | None = None
    content_type: bytes = b""
    """The media type in lower case, empty when there is none."""
    request_id: str | None = None
    """The provider's own name for this exchange."""
    final: bool = False
    """Trying again is pointless: the retries are used up, or time does not heal this."""
    keeps_length: bool = False
    """Every byte of the body goes on, so the length that the head announces holds."""

    @property
    def claims_json(self) -> bool:
        """Whether the head says that the body is JSON."""
        return self.content_type.startswith(b"application/json")


def take_answer(response: Response) -> Answer:
    """The head of a response, read once."""
    answer = Answer(response.status, response.headers, response)
    for name, value in response.headers:
        if name == b"content-type":
            answer.content_type = value.lower()
        elif name == b"x-request-id":
            answer.request_id = value.decode("latin-1")
    return answer


class Upstream:
    """The one owner of retries."""

    def __init__(
        self,
        client: Client,
        *,
        policy: RetryPolicy,
        timeouts: Timeouts,
        clock: Clock,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._policy = policy
        self._timeouts = timeouts
        self._clock = clock
        self._draw = draw
        self._budgets: dict[Origin, RetryBudget] = {}

    async def send(self, trip: Trip) -> Answer:
        """The provider's answer to a call, whatever its status; Provider* errors when none came."""
        request = build_request(trip, self._timeouts)
        budget = self._budget(request.origin)
        budget.deposit()
        stale = 0
        while True:
            trip.attempts += 1
            try:
                answer = await self._attempt(trip, request)
            except egress.Disconnected as error:
                if error.reused and isinstance(request.body, bytes) and stale < STALE_RETRIES_MAX:
                    stale += 1
                    trip.attempts -= 1
                    continue
                trip.was_sent = True
                failure: Answer | egress.EgressError = error
            except egress.EgressError as error:
                trip.was_sent = trip.was_sent or error.sent
                failure = error
            else:
                if answer.fault is None:
                    return answer
                failure = answer
            wait = self._wait_before_retry(trip, request, failure, budget)
            if wait is None:
                return conclude(failure)
            await asyncio.sleep(wait)

    async def _attempt(self, trip: Trip, request: Request) -> Answer:
        trip.sent_at = trip.sent_at or self._clock.monotonic()
        response = await self._client.send(request)
        trip.was_sent = True
        answer = take_answer(response)
        if response.status in RETRIED_STATUS:
            answer.body = await response.read(FAULT_BODY_BYTES_MAX)
            answer.fault = faults.classify(response.status, answer.body)
        return answer

    def _wait_before_retry(
        self,
        trip: Trip,
        request: Request,
        failure: Answer | egress.EgressError,
        budget: RetryBudget,
    ) -> float | None:
        """Seconds until the next attempt, None for no further one."""
        advised: float | None = None
        if isinstance(failure, Answer):
            assert failure.fault is not None
            if failure.fault.verdict not in RETRIED_VERDICTS:
                failure.final = True
                return None
            advised = faults.parse_retry_after(failure.headers, self._clock.now())
        elif not isinstance(failure, egress.ConnectFailed):
            # Sent and lost: the provider may have done the work, and would charge a second one.
            return None
        if not isinstance(request.body, bytes):
            return None
        wait = wait_seconds(self._policy, trip.attempts, advised, self._draw)
        if wait is None:
            return None
        elapsed = self._clock.monotonic() - trip.sent_at
        if (
            trip.attempts > self._policy.retries_max
            or elapsed + wait > self._timeouts.total_seconds
            or not budget.withdraw()
        ):
            if isinstance(failure, Answer):
                failure.final = True
            return None
        return wait

    def _budget(self, origin: Origin) -> RetryBudget:
        budget = self._budgets.get(origin)
        if budget is None:
            budget = self._budgets[origin] = RetryBudget(self._policy, self._clock)
        return budget


def build_request(trip: Trip, timeouts: Timeouts) -> Request:
    """The outgoing request: the client's headers that may travel, then the credential's own."""
    credential = trip.credential
    assert credential is not None, "routing comes before sending"
    data = trip.body.body if isinstance(trip.body, JsonRequest) else trip.body
    trip.body_bytes = len(data) if isinstance(data, bytes) else trip.call.content_length or 0
    return Request(
        credential.origin,
        trip.call.method.encode(),
        trip.target,
        join_headers(trip.call.headers, credential.headers),
        data,
        timeouts,
        trip.call.content_length,
    )


def join_headers(given: Headers, own: Headers) -> Headers:
    """The client's headers and the credential's; where both name one, the credential's counts."""
    if len(own) > 1:
        names = {name for name, _ in own}
        given = [header for header in given if header[0] not in names]
    return given + own


def conclude(failure: Answer | egress.EgressError) -> Answer:
    """The answer that the caller gets after the last attempt, or the error."""
    if isinstance(failure, Answer):
        return failure
    raise translate(failure) from failure


def translate(error: egress.EgressError) -> HeadgateError:
    """What an exchange that failed is to the caller; never with the provider's address in it."""
    if isinstance(error, egress.ConnectFailed):
        return ProviderUnreachable(
            "The provider could not be reached: no connection was made, and nothing was charged. "
            "`headgate doctor` tells more.",
            should_retry=False,
        )
    if isinstance(error, egress.FirstByteTimeout | egress.IdleTimeout | egress.TotalTimeout):
        return ProviderTimeout(
            "The provider did not answer in time. It may have done the work all the same, so the "
            "call is recorded with an unknown outcome.",
            should_retry=False,
        )
    return ProviderBroken(
        "The provider's answer broke off or could not be read. It may have done the work all the "
        "same, so the call is recorded with an unknown outcome.",
        should_retry=False,
    )
