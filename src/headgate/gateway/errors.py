"""Encode errors in the shape of the called API, and headers that tell SDKs whether to retry."""

from __future__ import annotations

import datetime
import math
import re

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Headers
from headgate.kit.money import format_dollars
from headgate.llm import provider_errors
from headgate.llm.convert.fields import read_object
from headgate.llm.convert.messages_to_responses.errors import make_error
from headgate.llm.error_object import TYPES, describe
from headgate.llm.routes import MethodNotAllowedError
from headgate.relay.ports import HoldRefusedError

SOURCE_GATEWAY = b"x-headgate-error-source: gateway\r\n"
HTTP_ONLY = b"upgrade: HTTP/1.1\r\nconnection: upgrade\r\n"
"""A 426 has to name the protocols that are supported (RFC 9110 15.5.22)."""
SOURCE_PROVIDER = b"x-headgate-error-source: provider\r\n"


MESSAGES = re.compile(
    rb"/v1/(?:completion/[^/?]+/[^/?]+/(?:anthropic/)?(?:v1/)?)?messages(?![^/?])"
)
"""The targets that Anthropic's clients call."""
API = b"/api/"
NO_HEADERS: Headers = []


MODELS = re.compile(rb"/v1/(?:completion/[^/?]+/[^/?]+/(?:anthropic/)?(?:v1/)?)?models(?![^/?])")
"""A target of both; Anthropic's clients send a version."""
VERSION_HEADER = b"anthropic-version"


def is_for_anthropic(target: bytes, headers: Headers = NO_HEADERS) -> bool:
    """Return whether errors of a request for that target have Anthropic's shape."""
    if MODELS.match(target):
        return any(name == VERSION_HEADER for name, _ in headers)
    return MESSAGES.match(target) is not None


def convert_for_anthropic(body: bytes, status: int, request_id: str) -> bytes:
    """Return the body of a provider's error, which has OpenAI's shape, in Anthropic's."""
    message = read_object(msgspec.json.decode(body), "error").get("message")
    text = str(message or f"The provider answered {status}.")
    return msgspec.json.encode(make_error(status, text, request_id))


def encode_body(
    error: HeadgateError, target: bytes = b"", request_id: str = "", headers: Headers = NO_HEADERS
) -> bytes:
    """Return the whole body of an error response to a request for that target.

    In OpenAI's shape, the refusal of a hold has the limit and its state in the member `denial`.
    """
    if is_for_anthropic(target, headers):
        body = make_error(error.kind.value, error.message, request_id or None)
        return msgspec.json.encode(body)
    if target.startswith(API):
        return msgspec.json.encode({"detail": error.message, "code": error.code})
    described: dict[str, object] = {**describe(error)}
    if isinstance(error, HoldRefusedError):
        described["denial"] = describe_denial(error, request_id)
    return msgspec.json.encode({"error": described})


def describe_denial(error: HoldRefusedError, request_id: str) -> dict[str, object]:
    """Return which limit refused a call, for programs. Amounts are strings in US dollars.

    `fits` has the largest output limit that would have been granted (0: none) and what a call with
    it would hold; it is null where no output limit helps.
    """
    denial = error.denial
    fits = None
    if error.fits_tokens is not None:
        fits = {
            "output_tokens": error.fits_tokens,
            "amount": format_dollars(error.fits_nano),
        }
    return {
        "code": error.code,
        "layer": denial.layer,
        "key": denial.key,
        "scope_id": denial.scope_id,
        "limit": format_dollars(denial.limit_nano),
        "used": format_dollars(denial.used_nano),
        "held": format_dollars(denial.held_nano),
        "needed": format_dollars(denial.needed_nano),
        "available": format_dollars(denial.available_nano),
        "currency": "USD",
        "resets_at": None if denial.resets_at is None else format_time(denial.resets_at),
        "fits": fits,
        "request_id": request_id,
    }


def format_time(at: float) -> str:
    """Return RFC 3339 in UTC, to the second, of unix seconds."""
    moment = datetime.datetime.fromtimestamp(at, datetime.UTC).replace(microsecond=0)
    return moment.isoformat().replace("+00:00", "Z")


def encode_rejection(status: int, body: bytes) -> bytes:
    """Return the body of a response by which a provider refused the gateway's credential.

    With the provider's status, type and code alone a client would think that its own key was
    refused. The message quotes the provider's message and code.
    """
    fault = provider_errors.classify(status, body)
    detail = f"It answered {status}"
    detail += f" ({fault.code})" if fault.code else ""
    detail += f": {fault.message}" if fault.message else "."
    error = {
        "message": f"The provider rejected the credential of this gateway, not your key. {detail}",
        "type": fault.type or TYPES[Kind.UPSTREAM],
        "param": None,
        "code": provider_errors.CREDENTIAL_REJECTED,
    }
    return msgspec.json.encode({"error": error})


def encode_head(error: HeadgateError, *, retry_after_max_seconds: float) -> bytes:
    """Return the header lines of an error.

    They have the content type, the error's source, retry advice within the maximum, and the number
    of retries.
    """
    lines = [b"content-type: application/json\r\n", SOURCE_GATEWAY]
    if error.retry_after_seconds is not None:
        wait = error.retry_after_seconds
        # Whoever is told not to retry may know how long it really takes.
        if error.should_retry is not False:
            wait = min(wait, retry_after_max_seconds)
        lines.append(b"retry-after: %d\r\n" % max(1, math.ceil(wait)))
    if error.kind is Kind.UPGRADE_REQUIRED:
        lines.append(HTTP_ONLY)
    if isinstance(error, MethodNotAllowedError):
        lines.append(b"allow: %b\r\n" % ", ".join(error.allowed).encode())
    if error.should_retry is not None:
        lines.append(b"x-should-retry: %b\r\n" % (b"true" if error.should_retry else b"false"))
    if isinstance(error, HoldRefusedError) and error.denial.resets_at is not None:
        reset = format_time(error.denial.resets_at).encode()
        lines.append(b"x-headgate-budget-reset: %b\r\n" % reset)
    if error.attempts:
        lines.append(b"x-headgate-retries: %d\r\n" % (error.attempts - 1))
    return b"".join(lines)
