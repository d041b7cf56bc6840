"""Say errors as Anthropic's API does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "invalid_request_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's type of an error by its HTTP status."""
STREAM_STATUSES = {
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "server_is_overloaded": 529,
    "slow_down": 529,
}
"""The HTTP status that stands for the code of an error within a stream of OpenAI."""


def find_type(status: int) -> str:
    if status in TYPES:
        return TYPES[status]
    return "invalid_request_error" if status < 500 else "api_error"


def make_error(status: int, message: str, request_id: str | None = None) -> dict[str, Any]:
    """Return the body of an error."""
    body: dict[str, Any] = {
        "type": "error",
        "error": {"type": find_type(status), "message": message},
    }
    if request_id is not None:
        body["request_id"] = request_id
    return body


def convert_stream_error(error: Mapping[str, Any]) -> dict[str, Any]:
    """Return the error of a stream that failed at the provider."""
    code = str(error.get("code") or error.get("type") or "")
    message = str(error.get("message") or "The provider ended its answer with an error.")
    return make_error(STREAM_STATUSES.get(code, 502), message)
