"""Encode a provider's response for a caller of the OpenAI API (decision 0020)."""

from __future__ import annotations

import functools
import math

import msgspec

from headgate.gateway import errors
from headgate.gateway.losses import render_losses
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Headers
from headgate.kit.money import format_dollars
from headgate.kit.rate_limiter import RateLimit
from headgate.llm import provider_errors
from headgate.llm.error_object import describe
from headgate.llm.providers.provider import Provider
from headgate.relay.call_state import CallState
from headgate.relay.ports import Receipt
from headgate.relay.upstream import UpstreamResponse

BODY_HEADERS = frozenset(
    {
        b"accept-ranges",
        b"content-disposition",
        b"content-encoding",
        b"content-language",
        b"content-range",
        b"content-type",
        b"etag",
        b"last-modified",
    }
)
"""Headers that describe the provider's body, and are wrong for a replaced one."""
RATE_PREFIX = b"x-headgate-ratelimit-"
PLAIN_RATE_PREFIX = b"x-ratelimit-"
"""The names that clients know, used only where no provider answers, since it may use them."""
UNBUFFERED = b"x-accel-buffering: no\r\n"
"""For streams: makes nginx in front pass them on as they come, without `proxy_buffering`."""
KNOWN_PRICINGS = frozenset({"priced", "free"})
NO_DEBIT = b"0.000000000"
NO_TOKENS = b"x-headgate-input-tokens: 0\r\nx-headgate-output-tokens: 0\r\n"
TRAILER_NAMES = (
    b"x-headgate-cost, x-headgate-wallet-debit, x-headgate-input-tokens, x-headgate-output-tokens,"
    b" x-headgate-overhead-us, x-headgate-pricing"
)
"""The headers of `render_cost`, announced in the `trailer` header of a stream."""
RETRY_AFTER_UNITS = {b"retry-after": 1, b"retry-after-ms": 1000}
"""The header's units per second."""


class ProviderError(HeadgateError):
    """The provider ended a stream with an error.

    Do what the provider's message says; the call is billed by what was delivered.
    """

    kind = Kind.UPSTREAM
    code = "provider_error"


class OpenAiEncoder:
    """Encode responses in OpenAI's wire format."""

    trailer_names = TRAILER_NAMES

    def __init__(self, provider: Provider, retry_after_max_seconds: float, clock: Clock) -> None:
        self._passing = provider.response_headers
        self._retry_after_max_seconds = retry_after_max_seconds
        self._clock = clock

    def encode_head(
        self, state: CallState, answer: UpstreamResponse, receipt: Receipt | None
    ) -> bytes:
        """Return the provider's headers that may pass, then the gateway's own."""
        call, credential = state.call, state.credential
        assert credential is not None, "an answer came from somewhere"
        request_id = call.request_id.encode()
        is_plain = (
            answer.request_id
            and answer.status < 400
            and call.correlation_id is None
            and state.output_limit is None
            and state.losses is None
        )
        return b"%bx-headgate-request-id: %b\r\n%bx-headgate-retries: %d\r\n%b%b%b%b" % (
            self._passing.render(answer.headers),
            request_id,
            credential.answer_head
            if state.cache_status == "bypass"
            else credential.answer_head.replace(
                b": bypass\r\n", b": %b\r\n" % state.cache_status.encode()
            ),
            state.attempts - 1 if state.attempts else 0,
            render_model(model) if (model := state.parsed_usage.model or call.model) else b"",
            render_rate_limits(call.rate_limits) if call.rate_limits else b"",
            UNBUFFERED if receipt is None else render_cost(receipt),
            b"" if is_plain and not answer.keeps_length else render_rare_headers(state, answer),
        )

    def encode_trailers(self, receipt: Receipt) -> bytes:
        """Return the cost headers of a buffered response, for the end of a stream."""
        return render_cost(receipt)

    def advise(self, answer: UpstreamResponse) -> None:
        """Make an error's headers say whether a retry helps.

        A wait never exceeds the maximum, except for 429: a client that came sooner would be refused
        again.
        """
        headers = answer.headers
        if answer.final:
            headers = [header for header in headers if header[0] != b"x-should-retry"]
            headers.append((b"x-should-retry", b"false"))
        if answer.status == 429 and (wait := self._find_wait(headers)):
            answer.headers = set_retry_after(headers, wait, self._clock.now())
        else:
            answer.headers = [self._clamp_retry_after(header) for header in headers]

    def _find_wait(self, headers: Headers) -> float:
        """Return the seconds until a provider's rate limit allows more; 0 if it states nothing."""
        advised = provider_errors.parse_retry_after(headers, self._clock.now())
        return max(advised or 0.0, provider_errors.parse_reset(headers) or 0.0)

    def _clamp_retry_after(self, header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        units = RETRY_AFTER_UNITS.get(header[0])
        if units is None:
            return header
        seconds = provider_errors.parse_retry_after([header], self._clock.now())
        if seconds is not None and seconds <= self._retry_after_max_seconds:
            return header
        return header[0], b"%d" % int(self._retry_after_max_seconds * units)

    def encode_error(self, state: CallState, answer: UpstreamResponse, body: bytes) -> bytes:
        """Return the provider's own body where it is JSON, else an error in OpenAI's shape.

        A refusal of the credential is reported as such, since the caller's own key was not refused.
        """
        self.advise(answer)
        if answer.status in provider_errors.REJECTED_STATUS:
            body = errors.encode_rejection(answer.status, body)
        elif is_json_object(body):
            return body
        else:
            # Some providers put their error object into a list.
            message = provider_errors.classify(answer.status, body).message or (
                f"The provider answered {answer.status} with a body that is not a JSON object."
            )
            body = errors.encode_body(ProviderError(message))
        answer.headers = [h for h in answer.headers if h[0] not in BODY_HEADERS]
        answer.headers.append((b"content-type", b"application/json"))
        return body

    def encode_body(self, state: CallState, body: bytes) -> bytes:
        """Return the provider's own bytes (law 4); `gateway.models` has the one exception."""
        return body

    def encode_error_frame(self, state: CallState, error: HeadgateError) -> bytes:
        """Return an error event for a stream that has begun, in the endpoint's wire format."""
        endpoint = state.call.endpoint if state.conversion is None else state.conversion.endpoint
        return endpoint.meter.encode_error(describe(error), state.parsed_usage)


def set_retry_after(headers: Headers, wait_seconds: float, now: float) -> Headers:
    """Return headers with a `retry-after` of at least this wait."""
    advised = provider_errors.parse_retry_after(headers, now)
    if advised is not None and advised >= wait_seconds:
        return headers
    kept = [header for header in headers if header[0] not in RETRY_AFTER_UNITS]
    return [*kept, (b"retry-after", b"%d" % math.ceil(wait_seconds))]


@functools.lru_cache(maxsize=1024)
def render_model(model: str | None) -> bytes:
    return b"x-headgate-model: %b\r\n" % encode_name(model or "")


def render_rate_limits(rate_limits: tuple[RateLimit, ...], prefix: bytes = RATE_PREFIX) -> bytes:
    """Return the header lines of the key's own rate limits; the provider's keep their names."""
    return b"".join(
        b"%blimit-%b: %d\r\n%bremaining-%b: %d\r\n%breset-%b: %b\r\n"
        % (
            *(prefix, unit, rate.limit),
            *(prefix, unit, rate.remaining),
            *(prefix, unit, render_duration(rate.reset_seconds)),
        )
        for rate in rate_limits
        for unit in (rate.unit.encode(),)
    )


def render_duration(seconds: float) -> bytes:
    """Format seconds as OpenAI does in such headers: `17ms`, `59.2s`."""
    return b"%dms" % (seconds * 1000) if seconds < 1 else b"%.1fs" % seconds


def render_cost(receipt: Receipt) -> bytes:
    """Return the header lines of a settled call: cost, wallet debit, tokens, and overhead.

    A free call has 0 tokens. Tokens that nobody reported are left out, and not said to be 0.
    """
    usage = receipt.usage
    cost = format_dollars(receipt.cost_nano).encode()
    return b"%bx-headgate-wallet-debit: %b\r\nx-headgate-overhead-us: %d\r\n%b" % (
        b"x-headgate-cost: %b\r\n" % cost
        if receipt.pricing in KNOWN_PRICINGS
        else render_pricing(receipt, cost),
        # The plan's credits pay first, and the wallet the rest.
        NO_DEBIT
        if not receipt.managed
        else format_dollars(receipt.cost_nano - receipt.credit_nano).encode()
        if receipt.credit_nano
        else cost,
        receipt.overhead_microseconds,
        (NO_TOKENS if receipt.pricing == "free" else b"")
        if usage is None
        else b"x-headgate-input-tokens: %d\r\nx-headgate-output-tokens: %d\r\n"
        % (usage.input_tokens, usage.output_tokens),
    )


def render_pricing(receipt: Receipt, cost: bytes) -> bytes:
    """Return the header lines of a call that is not fully priced, with any known sum."""
    line = b"x-headgate-pricing: %b\r\n" % receipt.pricing.encode()
    is_sum = receipt.pricing != "pending" and (receipt.managed or receipt.pricing == "partial")
    return line + (b"x-headgate-cost: %b\r\n" % cost if is_sum else b"")


def render_rare_headers(state: CallState, answer: UpstreamResponse) -> bytes:
    head = b""
    if answer.keeps_length:
        for name, value in answer.headers:
            if name == b"content-length":
                head += b"content-length: %b\r\n" % value
    if state.call.correlation_id is not None:
        head += b"x-headgate-correlation-id: %b\r\n" % encode_name(state.call.correlation_id)
    if state.output_limit is not None:
        head += b"x-headgate-output-limit: %d\r\n" % state.output_limit
    if state.losses is not None:
        head += render_losses(state.losses)
    if answer.request_id is None:
        head += b"x-request-id: %b\r\n" % state.call.request_id.encode()
    if answer.status >= 400:
        head += errors.SOURCE_PROVIDER
    return head


def encode_name(name: str) -> bytes:
    """Encode a foreign name for a header: printable ASCII on one line."""
    if not (name.isascii() and name.isprintable()):
        name = "".join(c if c.isascii() and c.isprintable() else "?" for c in name)
    return name.encode()


def is_json_object(body: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(body), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
