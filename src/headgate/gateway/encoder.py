"""Dresses a provider's answer for a caller of the OpenAI wire (decision 20)."""

from __future__ import annotations

import msgspec

from headgate.gateway import errors, listing
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Headers
from headgate.kit.money import format_dollars
from headgate.llm.providers.provider import Provider
from headgate.relay.ports import Receipt
from headgate.relay.trip import Trip
from headgate.relay.upstream import Answer

CACHE_BYPASS = (b"x-headgate-cache-status", b"bypass")
OF_THE_BODY = frozenset(
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
"""Headers that describe the provider's body, so they are wrong for another one."""


class ProviderFault(HeadgateError):
    kind = Kind.UPSTREAM
    code = "provider_error"


class OpenAiEncoder:
    """See `relay.delivery.Encoder`."""

    def __init__(self, provider: Provider, retry_after_max_seconds: float) -> None:
        self._passing = provider.response_headers
        self._retry_after_max_seconds = retry_after_max_seconds

    def headers(self, trip: Trip, answer: Answer, receipt: Receipt | None) -> Headers:
        """The provider's headers that may pass, then the gateway's own."""
        headers = self._passing.keep(answer.headers)
        call = trip.call
        if answer.keeps_length:
            headers += [header for header in answer.headers if header[0] == b"content-length"]
        request_id = call.request_id.encode()
        if trip.upstream_request_id is None:
            headers.append((b"x-request-id", request_id))
        headers.append((b"x-headgate-request-id", request_id))
        if call.correlation_id is not None:
            headers.append((b"x-headgate-correlation-id", call.correlation_id.encode()))
        if call.model is not None:
            model = trip.reading.model or call.model
            headers.append((b"x-headgate-model", encode_name(model)))
        credential = trip.credential
        if credential is not None:
            headers.append((b"x-headgate-provider", credential.integration.encode()))
            headers.append((b"x-headgate-credential-id", credential.id.encode()))
        headers.append(CACHE_BYPASS)
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
        for index, (name, value) in enumerate(headers):
            if name == b"retry-after":
                headers[index] = (name, clamp(value, self._retry_after_max_seconds))
            elif name == b"retry-after-ms":
                headers[index] = (name, clamp(value, 1000 * self._retry_after_max_seconds))

    def fault(self, trip: Trip, answer: Answer, body: bytes) -> bytes:
        """The provider's own words where they are JSON; else a sentence in the wire's shape."""
        if is_json_object(body):
            return body
        message = f"The provider answered {answer.status} with a body that is no JSON object."
        answer.headers = [h for h in answer.headers if h[0] not in OF_THE_BODY]
        answer.headers.append((b"content-type", b"application/json"))
        return errors.encode_body(ProviderFault(message))

    def body(self, trip: Trip, body: bytes) -> bytes:
        """The provider's own bytes, but for a list of models that the key may not see whole."""
        call = trip.call
        if call.endpoint.lists_models and call.grant.models and call.path == listing.PATH and body:
            return listing.narrow(body, call.grant.models)
        return body

    def error_frame(self, trip: Trip, error: HeadgateError) -> bytes:
        """An error inside a stream, as the endpoint's wire has it."""
        return trip.call.endpoint.meter.encode_error(errors.describe(error), trip.reading)


def clamp(value: bytes, maximum: float) -> bytes:
    """A number of an advice to wait, or the maximum for a larger one and for anything else."""
    whole, _, part = value.partition(b".")
    fits = whole.isdigit() and len(whole) < 10 and int(whole) <= maximum
    return value if fits and (part.isdigit() or not part) else b"%d" % maximum


def encode_name(name: str) -> bytes:
    """A name that somebody else chose, as a header may carry it: printable ASCII, of one line."""
    if not (name.isascii() and name.isprintable()):
        name = "".join(c if c.isascii() and c.isprintable() else "?" for c in name)
    return name.encode()


def is_json_object(body: bytes) -> bool:
    """Whether a body is a whole JSON object."""
    try:
        return isinstance(msgspec.json.decode(body), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
