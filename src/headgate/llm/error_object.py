"""Describe an error of the gateway in OpenAI's shape."""

from __future__ import annotations

from headgate.kit.errors import HeadgateError, Kind

INVALID_REQUEST = "invalid_request_error"
TYPES = {
    Kind.INVALID: INVALID_REQUEST,
    Kind.UNAUTHENTICATED: INVALID_REQUEST,
    Kind.UNPAID: "insufficient_quota",
    Kind.FORBIDDEN: "permission_error",
    Kind.LIMITED: "rate_limit_error",
    Kind.UPSTREAM: "upstream_error",
    Kind.UPSTREAM_TIMEOUT: "upstream_error",
    Kind.FAULT: "server_error",
    Kind.UNAVAILABLE: "server_error",
}


def describe(error: HeadgateError) -> dict[str, str | None]:
    """Return the member `error` of OpenAI's error body."""
    return {
        "message": error.message,
        "type": TYPES.get(error.kind, INVALID_REQUEST),
        "param": error.param,
        "code": error.code,
    }
