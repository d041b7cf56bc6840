"""Reads the answer to a raw request, and describes both for people who look for a mistake."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

import msgspec

from headgate.connectors.model.action import WholeAnswer
from headgate.kit.log import OMITTED, SHOWN_DEPTH_MAX, mask_text

CONTENT_TYPE = "content-type"
SHOWN_BYTES_MAX = 10_000
REDACTED = "[redacted]"
_SECRET_NAME = re.compile(
    r"auth|cookie|token|secret|passw|credential|signature|session|api[-_ ]?key|(?:^|[-_])key$",
    re.IGNORECASE,
)
_PLAIN_NAME = re.compile(
    r"tokens$|^x-ratelimit|(?:max|input|output|total)[-_]?tokens", re.IGNORECASE
)
"""Names of counts, which the pattern of secrets would take for secrets."""


class BinaryData(msgspec.Struct, frozen=True):
    """Hold bytes of an answer, which are base64 in JSON."""

    base64: bytes
    content_type: str = msgspec.field(name="contentType")
    size: int


class RawResponse(WholeAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """Hold the answer of the provider: `data` in the type that was asked for, the status and the
    headers. `debug` tells of the exchange without its secrets, if asked."""

    status: int
    headers: dict[str, str]
    debug: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


def read_data(response_type: str, headers: Mapping[str, str], body: bytes) -> Any:
    """Return the body of an answer in the asked type. `json` falls back to text, as for clients;
    bytes are base64."""
    media_type = headers.get(CONTENT_TYPE, "")
    if response_type == "arraybuffer":
        return BinaryData(body, media_type or "application/octet-stream", len(body))
    if response_type == "json":
        if not body:
            return None
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return _decode_text(body, media_type)


def _decode_text(body: bytes, media_type: str) -> str:
    found = re.search(r"charset=\"?([\w.:-]+)", media_type, re.IGNORECASE)
    try:
        return body.decode(found[1] if found else "utf-8", "replace")
    except LookupError:
        return body.decode("utf-8", "replace")


def describe_request(
    method: str, target: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float
) -> dict[str, Any]:
    """Return what is logged of a request: never a secret, and no large or binary body."""
    path, mark, query = target.partition("?")
    return {
        "method": method,
        "url": path + mark + _redact_query(query),
        "headers": redact_headers(headers),
        "timeout": round(timeout_seconds * 1000),
        "data": show_body(body, headers.get(CONTENT_TYPE, "")),
    }


def describe_answer(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return what is logged of an answer."""
    known = status in set(HTTPStatus)
    return {
        "status": status,
        "statusText": HTTPStatus(status).phrase if known else "",
        "headers": redact_headers(headers),
        "data": show_body(body, headers.get(CONTENT_TYPE, "")),
    }


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: REDACTED if is_secret(name) else mask_text(value) for name, value in headers.items()
    }


def show_body(body: bytes, media_type: str) -> Any:
    """Return a body for people: JSON without the values of secrets, text, or its size."""
    if not body:
        return None
    if len(body) > SHOWN_BYTES_MAX or media_type.startswith("multipart/"):
        return f"<data ({len(body)} bytes)>"
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return f"<data ({len(body)} bytes)>"
    try:
        return redact(msgspec.json.decode(text))
    except msgspec.DecodeError:
        return _redact_query(text) if "form-urlencoded" in media_type else mask_text(text)


def redact(value: Any, depth_max: int = SHOWN_DEPTH_MAX) -> Any:
    """Return JSON in which members with the names of secrets have no values. What is nested deeper
    is left out."""
    if depth_max < 0:
        return OMITTED
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {
            name: (
                REDACTED
                if is_secret(name) and isinstance(each, str)
                else redact(each, depth_max - 1)
            )
            for name, each in members.items()
        }
    if isinstance(value, list):
        return [redact(each, depth_max - 1) for each in cast("list[Any]", value)]
    return mask_text(value) if isinstance(value, str) else value


def is_secret(name: str) -> bool:
    """Return whether a header, parameter or member of this name may hold a secret."""
    return _SECRET_NAME.search(name) is not None and _PLAIN_NAME.search(name) is None


def _redact_query(query: str) -> str:
    pairs = [each.partition("=") for each in query.split("&")]
    return "&".join(
        name + mark + (REDACTED if is_secret(urllib.parse.unquote(name)) else mask_text(value))
        for name, mark, value in pairs
    )
