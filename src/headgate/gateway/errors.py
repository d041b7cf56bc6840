"""Errors in the shape of the API that was called, and headers that tell SDKs whether to retry."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.llm import provider_errors
from headgate.llm.routes import MethodNotAllowedError

TYPES = {
    Kind.INVALID: "invalid_request_error",
    Kind.UNAUTHENTICATED: "invalid_request_error",
    Kind.UNPAID: "insufficient_quota",
    Kind.FORBIDDEN: "permission_error",
    Kind.LIMITED: "rate_limit_error",
    Kind.UPSTREAM: "upstream_error",
    Kind.UPSTREAM_TIMEOUT: "upstream_error",
    Kind.FAULT: "server_error",
    Kind.UNAVAILABLE: "server_error",
}
ANTHROPIC_TYPES = {
    Kind.INVALID: "invalid_request_error",
    Kind.UNAUTHENTICATED: "authentication_error",
    Kind.UNPAID: "billing_error",
    Kind.FORBIDDEN: "permission_error",
    Kind.MISSING: "not_found_error",
    Kind.METHOD: "invalid_request_error",
    Kind.TOO_LARGE: "request_too_large",
    Kind.MEDIA_TYPE: "invalid_request_error",
    Kind.LIMITED: "rate_limit_error",
    Kind.TIMEOUT: "timeout_error",
    Kind.UPSTREAM_TIMEOUT: "timeout_error",
    Kind.UNAVAILABLE: "overloaded_error",
}
SOURCE_GATEWAY = b"x-headgate-error-source: gateway\r\n"
HTTP_ONLY = b"upgrade: HTTP/1.1\r\nconnection: upgrade\r\n"
"""Which protocols would do instead: a 426 has to say so (RFC 9110 15.5.22)."""
SOURCE_PROVIDER = b"x-headgate-error-source: provider\r\n"


def describe(error: HeadgateError) -> dict[str, str | None]:
    """The `error` object of OpenAI's wire."""
    return {
        "message": error.message,
        "type": TYPES.get(error.kind, "invalid_request_error"),
        "param": error.param,
        "code": error.code,
    }


def describe_for_anthropic(error: HeadgateError) -> dict[str, object]:
    """The body of an error on Anthropic's wire."""
    kind = ANTHROPIC_TYPES.get(error.kind, "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}}


def describe_for_api(error: HeadgateError) -> dict[str, object]:
    """The body of an error on the platform API, where the edge finds it."""
    return {"detail": error.message, "code": error.code}


SHAPES: tuple[tuple[bytes, Callable[[HeadgateError], dict[str, object]]], ...] = (
    (b"/v1/messages", describe_for_anthropic),
    (b"/api/", describe_for_api),
)
"""By the beginning of the target; every other one has OpenAI's shape."""


def encode_body(error: HeadgateError, target: bytes = b"") -> bytes:
    """The whole body of an error answer to a request for that target."""
    for prefix, shape in SHAPES:
        if target.startswith(prefix):
            return msgspec.json.encode(shape(error))
    return msgspec.json.encode({"error": describe(error)})


def encode_rejection(status: int, body: bytes) -> bytes:
    """The body of an answer by which a provider refuses the gateway's credential.

    With the status, type and code of the provider alone a client would take it for a refusal of its
    own key. The provider's message and code are part of the message.
    """
    fault = provider_errors.classify(status, body)
    said = f"It answered {status}"
    said += f" ({fault.code})" if fault.code else ""
    said += f": {fault.message}" if fault.message else "."
    error = {
        "message": f"The provider rejected the credential of this gateway, not your key. {said}",
        "type": fault.type or TYPES[Kind.UPSTREAM],
        "param": None,
        "code": provider_errors.CREDENTIAL_REJECTED,
    }
    return msgspec.json.encode({"error": error})


def encode_head(error: HeadgateError, *, retry_after_max_seconds: float) -> bytes:
    """Header lines: content type, source, the retry advice, which never exceeds the maximum, and
    how often the provider was asked again."""
    lines = [b"content-type: application/json\r\n", SOURCE_GATEWAY]
    if error.retry_after_seconds is not None:
        wait = min(error.retry_after_seconds, retry_after_max_seconds)
        lines.append(b"retry-after: %d\r\n" % max(1, math.ceil(wait)))
    if error.kind is Kind.UPGRADE_REQUIRED:
        lines.append(HTTP_ONLY)
    if isinstance(error, MethodNotAllowedError):
        lines.append(b"allow: %b\r\n" % ", ".join(error.allowed).encode())
    if error.should_retry is not None:
        lines.append(b"x-should-retry: %b\r\n" % (b"true" if error.should_retry else b"false"))
    if error.attempts:
        lines.append(b"x-headgate-retries: %d\r\n" % (error.attempts - 1))
    return b"".join(lines)
