"""The bodies of a request, as they are kept: attachments as digests, within a size."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Iterable
from typing import Any, cast

import msgspec

from headgate.kit.errors import HeadgateError, Kind

ATTACHMENT_CHARACTERS_MIN = 256
"""Shorter texts in base64 stay: their digest would be no shorter."""
ATTACHMENT_FIELDS = frozenset({"b64_json", "data", "file_data", "partial_image_b64", "result"})
"""The fields that hold files in base64, in the formats of OpenAI and of Anthropic."""
REPLACED = "$attachment"
_DATA_URL = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.=+-]+)*;base64,(?P<data>.*)", re.S
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
COMPRESSION_LEVEL = 1


class PayloadNotKeptError(HeadgateError):
    """The bodies of this request are not kept: its project asked for none, or they were deleted.

    Set the request log of the project to `full`; requests from then on have their bodies.
    """

    kind = Kind.MISSING
    code = "payload_not_kept"


class Payload(msgspec.Struct, frozen=True):
    """Hold one body. `size` and `sha256` are those of the body as it came.

    `body` is None for what is no text. `is_exact` says that it is the body, byte for byte: no
    attachment was replaced and nothing was cut off.
    """

    media_type: str = ""
    size: int = 0
    sha256: str = ""
    body: bytes | None = None
    is_exact: bool = False
    attachments: int = 0
    is_cut: bool = False


class StoredExchange(msgspec.Struct, frozen=True):
    """Hold the bodies and heads of one request.

    `target` is what the client called, with its query; `headers` are those of the client without
    what authenticates it. `sent` is the body that the provider got, None where that was the
    client's own. `sent_target` is where it went, below the base URL.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    request: Payload
    sent_target: str
    sent: Payload | None
    status: int
    response_headers: tuple[tuple[str, str], ...]
    response: Payload


def keep_body(data: bytes, media_type: str, *, bytes_max: int) -> Payload:
    """Return a body as it is kept: JSON and texts without their attachments, others as digest."""
    kind = media_type.partition(";")[0].strip().lower()
    digest = hashlib.sha256(data).hexdigest()
    if not data:
        return Payload(kind, 0, digest, b"", is_exact=True)
    kept, attachments = _replace_attachments(data, kind)
    if kept is None:
        return Payload(kind, len(data), digest, None, attachments=1)
    is_cut = len(kept) > bytes_max
    return Payload(
        kind,
        len(data),
        digest,
        _cut(kept, bytes_max) if is_cut else kept,
        is_exact=not (attachments or is_cut),
        attachments=attachments,
        is_cut=is_cut,
    )


def describe_missing(size: int, media_type: str) -> Payload:
    """Return what is kept of a body that was not captured."""
    return Payload(media_type.partition(";")[0].strip().lower(), size)


def encode_exchange(exchange: StoredExchange) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(exchange), COMPRESSION_LEVEL)


def decode_exchange(data: bytes) -> StoredExchange:
    return msgspec.msgpack.decode(zlib.decompress(data), type=StoredExchange)


def _replace_attachments(data: bytes, kind: str) -> tuple[bytes | None, int]:
    """Return a body without its attachments, and their number; None for a body that is no text."""
    if kind.endswith("json") or (not kind and data[:1] in b"{["):
        return _replace_in_json(data)
    if kind == "text/event-stream":
        return _replace_in_events(data)
    if kind.startswith("multipart/"):
        return None, 1
    try:
        data.decode()
    except UnicodeDecodeError:
        return None, 1
    return data, 0


def _replace_in_json(data: bytes) -> tuple[bytes | None, int]:
    try:
        decoded = msgspec.json.decode(data)
    except _UNREADABLE:
        return data, 0
    counter = _Replacement()
    replaced = counter.replace(decoded)
    return (msgspec.json.encode(replaced), counter.count) if counter.count else (data, 0)


def _replace_in_events(data: bytes) -> tuple[bytes, int]:
    total = 0
    lines: list[bytes] = []
    for line in data.split(b"\n"):
        if len(line) > ATTACHMENT_CHARACTERS_MIN and line.startswith(b"data:"):
            replaced, count = _replace_in_json(line[5:].strip())
            if count and replaced is not None:
                total += count
                line = b"data: " + replaced
        lines.append(line)
    return (b"\n".join(lines), total) if total else (data, 0)


class _Replacement:
    """Replace attachments in decoded JSON, and count them."""

    def __init__(self) -> None:
        self.count = 0

    def replace(self, value: Any, name: str = "", siblings: dict[str, Any] | None = None) -> Any:
        if isinstance(value, dict):
            fields = cast("dict[str, Any]", value)
            return {key: self.replace(each, key, fields) for key, each in fields.items()}
        if isinstance(value, list):
            return [self.replace(each, name, siblings) for each in cast("list[Any]", value)]
        if isinstance(value, str) and len(value) >= ATTACHMENT_CHARACTERS_MIN:
            return self._replace_text(value, name, siblings or {})
        return value

    def _replace_text(self, text: str, name: str, siblings: dict[str, Any]) -> Any:
        url = _DATA_URL.fullmatch(text)
        if url is not None:
            return self._describe(url["data"], url["type"] or "text/plain")
        if name in ATTACHMENT_FIELDS and _BASE64.fullmatch(text):
            stated = siblings.get("media_type") or siblings.get("format") or ""
            return self._describe(text, stated if isinstance(stated, str) else "")
        return text

    def _describe(self, text: str, media_type: str) -> dict[str, Any]:
        self.count += 1
        try:
            data = base64.b64decode(text)
        except (binascii.Error, ValueError):
            data = text.encode()
        digest = hashlib.sha256(data).hexdigest()
        return {REPLACED: {"media_type": media_type, "bytes": len(data), "sha256": digest}}


def _cut(data: bytes, bytes_max: int) -> bytes:
    """Return the beginning of a text, without half of a character."""
    return data[:bytes_max].decode("utf-8", "ignore").encode()


def parse_head(head: bytes) -> tuple[tuple[str, str], ...]:
    """Return the header lines of an answer as pairs."""
    pairs: list[tuple[str, str]] = []
    for line in head.split(b"\r\n"):
        name, mark, value = line.partition(b":")
        if mark:
            pairs.append((name.decode("latin-1").lower(), value.strip().decode("latin-1")))
    return tuple(pairs)


def find_header(headers: Iterable[tuple[str, str]], name: str) -> str:
    """Return the first value of a header, empty without one."""
    return next((value for each, value in headers if each == name), "")
