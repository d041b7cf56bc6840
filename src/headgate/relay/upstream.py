"""Send a call to its provider: attempts, deadlines, and the meaning of a failure.

Nothing here touches the caller: every retry comes before the first byte of an answer is passed on
(law 9).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec
from msgspec.structs import replace

from headgate.kit.clock import Clock
from headgate.kit.decoding import Decoder, DecodingError
from headgate.kit.errors import HeadgateError, Kind, drop_trace
from headgate.kit.http import errors as egress
from headgate.kit.http.message import Client, Headers, Request, Response, Timeouts
from headgate.llm import provider_errors
from headgate.llm.request import JsonRequest
from headgate.relay.breaker import Breakers, Probes
from headgate.relay.call_state import CallState, ResponseMemoryExhaustedError
from headgate.relay.deadlines import cap_timeouts, merge_timeouts
from headgate.relay.ports import CapacityRecorder, Credential
from headgate.relay.retry import RetryBudget, RetryBudgets, RetryPolicy, wait_seconds
from headgate.relay.stream_usage import REFUSING_STATUS, UsageRefusals, names_usage

RETRIED_STATUS = frozenset({408, 429, 500, 502, 503, 504, 529})
RETRIED_CATEGORIES = frozenset(
    {provider_errors.ErrorCategory.RATE, provider_errors.ErrorCategory.SERVER}
)
RETRY_ADVICE = {b"true": True, b"false": False}
ERROR_BODY_BYTES_MAX = 1 << 20
CODED_HEADERS = frozenset({b"content-encoding", b"etag"})
STALE_RETRIES_MAX = 2
SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that change nothing at the provider, however often they are repeated (RFC 9110,
9.2.1)."""


class ProviderUnreachableError(HeadgateError):
    """The provider could not be reached. Nothing was sent, and nothing was charged.

    Try again; `headgate doctor` tests the connection.
    """

    kind = Kind.UPSTREAM
    code = "provider_unreachable"


class InvalidProviderResponseError(HeadgateError):
    """The provider's answer is not valid HTTP or not what its API promises.

    Try again; check the base URL of the credential.
    """

    kind = Kind.UPSTREAM
    code = "provider_invalid_response"


class ProviderTimeoutError(HeadgateError):
    """The provider did not answer in time. It may have done the work.

    Try again, or raise the deadline of the credential or model.
    """

    kind = Kind.UPSTREAM_TIMEOUT
    code = "provider_timeout"


class UpstreamResponse(msgspec.Struct):
    """Hold a provider's answer: its head, and its body where that was read already (of an
    error)."""

    status: int
    headers: Headers
    response: Response
    body: bytes | None = None
    provider_error: provider_errors.ProviderErrorResponse | None = None
    content_type: bytes = b""
    """The media type in lower case; empty where there is none."""
    coding: bytes = b""
    """The content coding of the body, which the gateway never asks for; empty where there is
    none."""
    coding_error: str = ""
    decoder: Decoder | None = None
    """Undoes the content coding of a body while it streams."""
    request_id: str | None = None
    """The provider's id of this exchange."""
    final: bool = False
    """Whether a retry is pointless: the retries are used up, or time does not heal the failure."""
    keeps_length: bool = False
    """Whether every byte of the body is passed on, so that the announced length holds."""
    retry_advice: bool | None = None
    """The provider's own word on whether to retry; None where it says nothing."""

    def decode(self, body: bytes, bytes_max: int) -> bytes:
        """Return the body without its content coding, and drop the coding from the headers.

        A body that cannot be decoded is returned empty, and `coding_error` says why: an exception
        would keep a decompression bomb in its traceback.
        """
        if not (self.coding and body):
            return body
        try:
            decoder = Decoder(self.coding.decode("latin-1"), output_bytes_max=bytes_max)
            body = b"".join(decoder.feed(body))
            decoder.finish()
        except DecodingError as error:
            self.coding_error = str(error)
            body = b""
        self.drop_coding()
        return body

    def drop_coding(self) -> None:
        self.coding = b""
        self.headers = [header for header in self.headers if header[0] not in CODED_HEADERS]

    @property
    def media_type(self) -> bytes:
        return self.content_type.partition(b";")[0].rstrip()

    @property
    def claims_json(self) -> bool:
        kind = self.media_type
        return kind == b"application/json" or kind.endswith(b"+json")


def read_response(response: Response) -> UpstreamResponse:
    answer = UpstreamResponse(response.status, response.headers, response)
    for name, value in response.headers:
        if name == b"content-type":
            answer.content_type = value.lower()
        elif name == b"x-request-id":
            answer.request_id = value.decode("latin-1")
        elif name == b"content-encoding" and value != b"identity":
            answer.coding = answer.coding + b", " + value if answer.coding else value
        elif name == b"x-should-retry":
            answer.retry_advice = RETRY_ADVICE.get(value.lower())
    return answer


class Upstream:
    """Send calls to providers; the one owner of retries."""

    def __init__(
        self,
        client: Client,
        *,
        policy: RetryPolicy,
        timeouts: Timeouts,
        breakers: Breakers,
        clock: Clock,
        draw: Callable[[], float] = random.random,
        capacity_recorder: CapacityRecorder | None = None,
        usage_refusals: UsageRefusals | None = None,
    ) -> None:
        self._client = client
        self._policy = policy
        self._timeouts = timeouts
        self._breakers = breakers
        self._clock = clock
        self._draw = draw
        self._capacity_recorder = capacity_recorder
        self._usage_refusals = usage_refusals or UsageRefusals()
        self._budgets = RetryBudgets(policy, clock)

    async def send(
        self, state: CallState, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> UpstreamResponse:
        """Return the provider's answer to a call, whatever its status.

        `sleep` waits the seconds between two attempts, or raises to prevent a further one. Raise
        `ProviderUnreachableError`, `ProviderTimeoutError` or `InvalidProviderResponseError` without
        an answer.
        """
        request = build_request(state, self._timeouts)
        budget = self._budgets.find(request.origin)
        budget.deposit()
        credential, model = state.credential, state.call.model
        assert credential is not None, "routing comes before sending"
        probes = self._breakers.admit(credential, model)
        try:
            while True:
                result = await self._attempt(state, request)
                if isinstance(result, UpstreamResponse) and result.provider_error is None:
                    if state.body_without_usage is None or not self._retries_without_usage(
                        state, result
                    ):
                        break
                    request = build_request(state, self._timeouts)
                    continue
                wait = self._wait_before_retry(state, request, result, budget, may_retry=not probes)
                if wait is None:
                    break
                await sleep(wait)
                # Other calls may have opened a breaker during the wait.
                if self._breakers.rejects(credential, model):
                    mark_final(result)
                    break
        # A probe that is cancelled must not keep others from probing.
        except BaseException:
            self._breakers.release_probes(probes)
            raise
        self._report_to_breakers(state, request, result, probes)
        if (
            self._capacity_recorder is not None
            and isinstance(result, UpstreamResponse)
            and result.provider_error is None
        ):
            self._note_capacity(self._capacity_recorder, state, result)
        return raise_or_return(result)

    def _report_to_breakers(
        self,
        state: CallState,
        request: Request,
        result: UpstreamResponse | egress.EgressError,
        probes: Probes,
    ) -> None:
        """Report the call to the breakers, once, however often it was tried."""
        credential, model = state.credential, state.call.model
        assert credential is not None, "routing comes before sending"
        if isinstance(result, UpstreamResponse):
            if result.provider_error is not None and result.status >= 500:
                self._breakers.fail(credential, model, probes)
            else:
                self._breakers.succeed(credential, model, probes)
        elif is_failure_to_connect(result):
            self._breakers.fail_to_connect(credential, probes)
        elif is_failure_of_provider(result, request):
            self._breakers.fail(credential, model, probes)
        else:
            self._breakers.release_probes(probes)

    def _retries_without_usage(self, state: CallState, answer: UpstreamResponse) -> bool:
        """Return whether the provider rejected the request for usage, so that the client's own body
        is sent now.

        The rejection is remembered only when that body is answered: a provider may quote a body
        that it rejects for another reason.
        """
        if answer.status < 400:
            if not state.requested_usage:
                self._usage_refusals.note(state)
            return False
        if not (
            state.requested_usage
            and state.body_without_usage
            and answer.body
            and names_usage(answer.body)
        ):
            return False
        state.body, state.requested_usage, state.was_sent = state.body_without_usage, False, False
        return True

    def _note_capacity(
        self, capacity_recorder: CapacityRecorder, state: CallState, answer: UpstreamResponse
    ) -> None:
        assert state.credential is not None, "routing comes before sending"
        capacity_recorder.note(state.credential.id, state.call.model, answer.headers, state.sent_at)

    async def _attempt(
        self, state: CallState, request: Request
    ) -> UpstreamResponse | egress.EgressError:
        """Make one attempt that counts; return the answer, or the error in its place."""
        state.attempts += 1
        try:
            return await self._exchange(state, request)
        except egress.EgressError as error:
            state.was_sent = error.sent
            return drop_trace(error)
        except egress.ConnectCancelledError:
            state.was_sent = False
            raise

    async def _exchange(self, state: CallState, request: Request) -> UpstreamResponse:
        """Return the answer's head, with the body of an error that may be retried.

        A safe request whose reused connection ended at once is sent again, which counts as an
        attempt.
        """
        stale = 0
        while True:
            now = self._clock.monotonic()
            state.sent_at = state.sent_at or now
            # Until an error proves otherwise: a lost connection must count as sent.
            state.was_sent = True
            try:
                response = await self._client.send(limit_total(request, now - state.sent_at))
            except egress.DisconnectedError as error:
                if stale == STALE_RETRIES_MAX or not can_resend(error, request):
                    raise
            else:
                break
            stale += 1
            state.attempts += 1
        answer = read_response(response)
        if response.status in RETRIED_STATUS or (response.status >= 400 and answer.retry_advice):
            answer.body = answer.decode(
                await read_error_body(state, response), ERROR_BODY_BYTES_MAX
            )
            answer.provider_error = provider_errors.classify(response.status, answer.body)
            state.was_sent = False
        elif state.requested_usage and response.status in REFUSING_STATUS:
            answer.body = answer.decode(
                await read_error_body(state, response), ERROR_BODY_BYTES_MAX
            )
        return answer

    def _wait_before_retry(
        self,
        state: CallState,
        request: Request,
        failure: UpstreamResponse | egress.EgressError,
        budget: RetryBudget,
        *,
        may_retry: bool,
    ) -> float | None:
        """Return the seconds until the next attempt; None for no further one, as for a probe."""
        if isinstance(failure, UpstreamResponse):
            failure.final = is_final(failure)
            if failure.final:
                return None
        elif not can_connect_again(failure):
            return None
        assert state.credential is not None, "routing comes before sending"
        advised = self._find_advice(failure)
        wait = wait_seconds(self._policy, state.attempts, advised, self._draw)
        if wait is None or not isinstance(request.body, bytes):
            # A streamed body is gone after the first attempt, and long waits are the client's.
            self._leave_to_client(failure, advised, budget)
            return None
        elapsed = self._clock.monotonic() - state.sent_at
        # The budget is asked last, since asking spends it.
        if (
            state.attempts > find_retries_max(state, self._policy)
            or elapsed + wait > request.timeouts.total_seconds
            or not may_retry
            or self._breakers.rejects(state.credential, state.call.model)
            or not budget.withdraw()
        ):
            mark_final(failure)
            return None
        return wait

    def _leave_to_client(
        self,
        failure: UpstreamResponse | egress.EgressError,
        advised: float | None,
        budget: RetryBudget,
    ) -> None:
        """Let the client retry itself, out of the same budget, if the wait is not too long."""
        if not isinstance(failure, UpstreamResponse):
            return
        if (advised or 0.0) > self._policy.advice_max_seconds or not budget.withdraw():
            failure.final = True

    def _find_advice(self, failure: UpstreamResponse | egress.EgressError) -> float | None:
        """Return the seconds that the provider asks to wait. A wait of 0 is no advice, as for the
        SDKs."""
        if not isinstance(failure, UpstreamResponse):
            return None
        advised = provider_errors.parse_retry_after(failure.headers, self._clock.now())
        if advised is None and failure.status == 429:
            advised = provider_errors.parse_reset(failure.headers)
        return advised or None


def can_resend(error: egress.DisconnectedError, request: Request) -> bool:
    """Return whether a request whose reused connection ended at once may be sent a second time.

    The provider may have read it and done the work, which cannot be told from a connection that was
    closed before. So only what is safe to repeat is: the provider promises nothing for an
    `Idempotency-Key`, and a repeated DELETE has another answer. A request that never left is safe
    in any case.
    """
    is_safe = request.method in SAFE_METHODS or not error.sent
    return error.reused and is_safe and isinstance(request.body, bytes)


def can_connect_again(failure: egress.EgressError) -> bool:
    """Return whether nothing was sent yet, and another try may succeed.

    What was sent and lost may have been done, and would be charged twice; a forbidden address stays
    forbidden.
    """
    return isinstance(failure, egress.ConnectError) and not isinstance(
        failure, egress.ForbiddenAddressError
    )


def find_retries_max(state: CallState, policy: RetryPolicy) -> int:
    """Return how often a call is repeated: as its target says, else the settings, and no more than
    its client wants."""
    target, wanted = state.routed_target, state.call.retries_max
    known = policy.retries_max
    if target is not None and target.retries_max is not None:
        known = target.retries_max
    return known if wanted is None else min(known, wanted)


async def read_error_body(state: CallState, response: Response) -> bytes:
    """Read the body of an error; empty for one that is too large for a message, or for the
    memory."""
    try:
        return await response.read(ERROR_BODY_BYTES_MAX, state.reserve_answer)
    except (egress.ResponseTooLargeError, ResponseMemoryExhaustedError):
        return b""


def build_request(state: CallState, timeouts: Timeouts) -> Request:
    """Build the outgoing request: the client's headers that may be forwarded, then the credential's
    own.

    `timeouts` are those of the settings; deadlines of the model or the credential replace them, and
    none is longer than the deadline of the call or of its target.
    """
    credential, model = state.credential, state.model
    assert credential is not None, "routing comes before sending"
    if credential.deadlines is not None or (model is not None and model.deadlines is not None):
        timeouts = merge_timeouts(timeouts, model and model.deadlines, credential.deadlines)
    if state.call.deadline_seconds is not None:
        timeouts = cap_timeouts(timeouts, state.call.deadline_seconds)
    target = state.routed_target
    if target is not None and target.timeout_seconds is not None:
        timeouts = cap_timeouts(timeouts, target.timeout_seconds)
    data = state.body.body if isinstance(state.body, JsonRequest) else state.body
    state.body_bytes = len(data) if isinstance(data, bytes) else state.call.content_length or 0
    return Request(
        credential.origin,
        state.call.method.encode(),
        state.target,
        join_headers(state.call.headers, credential),
        data,
        timeouts,
        state.call.content_length,
        credential.purpose,
    )


def join_headers(given: Headers, credential: Credential) -> Headers:
    """Join the client's headers and the credential's, which replace the client's of the same
    name."""
    replaced = credential.replaces
    if replaced:
        given = [header for header in given if header[0] not in replaced]
    return given + credential.headers


def limit_total(request: Request, elapsed: float) -> Request:
    """Return the request with what is left of the total deadline, which spans all attempts."""
    if not elapsed:
        return request
    timeouts = request.timeouts
    left = max(0.001, timeouts.total_seconds - elapsed)
    return replace(request, timeouts=replace(timeouts, total_seconds=left))


def is_final(answer: UpstreamResponse) -> bool:
    """Return whether time does not heal a refusal: by the provider's own word, else by its
    reason."""
    assert answer.provider_error is not None
    if answer.retry_advice is not None:
        return not answer.retry_advice
    return answer.provider_error.category not in RETRIED_CATEGORIES


def is_failure_to_connect(error: egress.EgressError) -> bool:
    """Return whether other calls would get no connection to the origin either. An exhausted pool
    and an address that this credential may not use say nothing about the origin."""
    return isinstance(error, egress.ConnectError) and not isinstance(
        error, egress.PoolExhaustedError | egress.ForbiddenAddressError
    )


def is_failure_of_provider(error: egress.EgressError, request: Request) -> bool:
    """Return whether a provider that was reached would fail other calls as well.

    A streamed body whose sender may have been slow says nothing about it, nor does a reused
    connection that may have ended before.
    """
    is_stale = isinstance(error, egress.DisconnectedError) and error.reused
    return error.sent and not is_stale and isinstance(request.body, bytes)


def mark_final(
    failure: UpstreamResponse | egress.EgressError,
) -> UpstreamResponse | egress.EgressError:
    if isinstance(failure, UpstreamResponse):
        failure.final = True
    return failure


def raise_or_return(failure: UpstreamResponse | egress.EgressError) -> UpstreamResponse:
    if isinstance(failure, UpstreamResponse):
        return failure
    raise describe_egress_error(failure) from failure


def describe_egress_error(error: Exception) -> HeadgateError:
    """Return the client's error for a failed exchange, without the provider's address in it."""
    if isinstance(error, egress.EgressError) and not error.sent:
        return ProviderUnreachableError(
            "The provider could not be reached: nothing was sent, and nothing was charged. "
            "`headgate doctor` tells more.",
            should_retry=False,
        )
    if isinstance(
        error, egress.FirstByteTimeoutError | egress.IdleTimeoutError | egress.TotalTimeoutError
    ):
        return ProviderTimeoutError(
            "The provider did not answer in time. It may have done the work all the same, so the "
            "call is recorded with an unknown outcome.",
            should_retry=False,
        )
    return InvalidProviderResponseError(
        "The provider's answer broke off or could not be read. It may have done the work all the "
        "same, so the call is recorded with an unknown outcome.",
        should_retry=False,
    )
