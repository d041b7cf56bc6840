"""Dresses a provider's answer for a caller of the OpenAI wire (decision 20)."""

from __future__ import annotations

import msgspec

from headgate.gateway import errors
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Headers
from headgate.kit.money import format_dollars
from headgate.llm import errors as faults
from headgate.llm.providers.provider import Provider
from headgate.relay.ports import Receipt
from headgate.relay.trip import Trip
from headgate.relay.upstream import Answer

RETRY_AFTER_UNITS = {b"retry-after": 1, b"retry-after-ms": 1000}
"""How many of its unit a second has."""


class ProviderFault(HeadgateError):
    kind = Kind.UPSTREAM
    code = "provider_error"


class OpenAiEncoder:
    """See `relay.delivery.Encoder`."""

    def __init__(self, provider: Provider, retry_after_max_seconds: float, clock: Clock) -> None:
        self._passing = provider.response_headers
        self._retry_after_max_seconds = retry_after_max_seconds
        self._clock = clock

    def headers(self, trip: Trip, answer: Answer, receipt: Receipt | None) -> Headers:
        """The provider's headers that may pass, then the gateway's own."""
        headers = self._passing.keep(answer.headers)
        call = trip.call
        request_id = call.request_id.encode()
        if trip.upstream_request_id is None:
            headers.append((b"x-request-id", request_id))
        headers.append((b"x-headgate-request-id", request_id))
        if call.correlation_id is not None:
            headers.append((b"x-headgate-correlation-id", call.correlation_id.encode()))
        if call.model is not None:
            headers.append((b"x-headgate-model", encode_value(trip.reading.model or call.model)))
        credential = trip.credential
        if credential is not None:
            headers.append((b"x-headgate-provider", credential.integration.encode()))
            headers.append((b"x-headgate-credential-id", credential.id.encode()))
        headers.append((b"x-headgate-retries", b"%d" % (trip.attempts - 1)))
        if receipt is not None:
            if receipt.pricing != "unpriced":
                headers.append((b"x-headgate-cost", format_dollars(receipt.cost_nano).encode()))
            headers.append((b"x-headgate-overhead-us", b"%d" % receipt.overhead_microseconds))
        if answer.status >= 400:
            self._advise(headers, answer)
        return headers

    def _advise(self, headers: Headers, answer: Answer) -> None:
        """Whose error it is, and whether trying again helps; never a wait past the maximum."""
        headers.append(errors.SOURCE_PROVIDER)
        if answer.final:
            headers[:] = [header for header in headers if header[0] != b"x-should-retry"]
            headers.append((b"x-should-retry", b"false"))
        for index, header in enumerate(headers):
            name = header[0]
            if name in RETRY_AFTER_UNITS:
                seconds = faults.parse_retry_after([header], self._clock.now())
                if seconds is not None and seconds > self._retry_after_max_seconds:
                    units = int(self._retry_after_max_seconds * RETRY_AFTER_UNITS[name])
                    headers[index] = (name, b"%d" % units)

    def fault(self, trip: Trip, answer: Answer, body: bytes) -> bytes:
        """The provider's own words where they are JSON; else a sentence in the wire's shape."""
        if is_json_object(body):
            return body
        message = f"The provider answered {answer.status} with a body that is not JSON."
        answer.headers = [h for h in answer.headers if h[0] != b"content-type"]
        answer.headers.append((b"content-type", b"application/json"))
        return errors.encode_body(ProviderFault(message))

    def error_frame(self, trip: Trip, error: HeadgateError) -> bytes:
        """An error inside a stream, as the endpoint's wire has it."""
        return trip.call.endpoint.meter.encode_error(errors.describe(error), trip.reading)


def encode_value(text: str) -> bytes:
    """A text as a header's value, without anything that could end the line."""
    if not text.isascii() or not text.isprintable():
        text = "".join(each if each.isascii() and each.isprintable() else "?" for each in text)
    return text.encode()


def is_json_object(body: bytes) -> bool:
    """Whether a body is a whole JSON object."""
    try:
        return isinstance(msgspec.json.decode(body), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
