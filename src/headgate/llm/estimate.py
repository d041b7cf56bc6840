"""Estimate the tokens of a request's input, before its provider has counted them.

Text is estimated by its bytes. Pictures, audio and files in base64 are not text: a picture of 3 MB
is some 1,400 tokens, and not a million. They are found without decoding the body, and only in
bodies that are large enough to hold any.

Pictures are counted by the rules of `llm.pictures`: by their size where their first bytes tell it,
else as the largest that a picture of that detail can be.
"""

from __future__ import annotations

import base64
import binascii
import re

from headgate.llm.pictures import Size, find_rule, find_size

BYTES_PER_TOKEN = 4
SCANNED_BYTES_MIN = 16_384
"""A smaller body is counted as text, whatever it holds."""
PARTS_MAX = 1_024
"""Further long values count as text."""
QUOTES_MAX = 65_536
"""The scan ends after so many quotes, at most a few milliseconds; the rest counts as text."""
PART_BYTES_MIN = 1_024
"""A shorter value counts as text."""
AUDIO_BYTES_PER_TOKEN = 400
"""In base64: ten tokens a second, at 32 kbit/s."""
FILE_BYTES_PER_TOKEN = 40
"""In base64: 2,500 tokens for a page of 100 KB, which providers read as text and as a picture."""
HEAD_BYTES, JPEG_HEAD_BYTES = 64, 65_536
"""How much of a picture in base64 is decoded for its size. A JPEG has its metadata before it."""

_DATA_URL = re.compile(rb"data:([a-zA-Z0-9.+-]{1,64})\\?/[^,]{0,128};base64,")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_\\-]{64}")
_KINDS = {
    b"audio": b"audio",
    b"b64_json": b"image",
    b"data": b"audio",
    b"file_data": b"application",
    b"file_url": b"application",
    b"image": b"image",
    b"image_url": b"image",
    b"url": b"image",
}
"""Fields that hold a picture, audio or a file; without a data URL the field tells which."""
_KEY = re.compile(rb'"(%b)"\s{0,8}:\s{0,8}"\Z' % b"|".join(_KINDS))
_DETAIL = re.compile(rb'"detail"\s{0,8}:\s{0,8}"(low|high|original)"')
_AROUND_BYTES = 96
"""How far from a picture its `detail` is searched."""


def estimate_text_tokens(size: int) -> int:
    """Return the estimated tokens of a text of so many bytes or characters, rounded up."""
    return -(-size // BYTES_PER_TOKEN)


def estimate_input_tokens(body: bytes, model: str | None) -> int:
    """Return the estimated tokens of a JSON request's input, rounded up. The scan goes from quote
    to quote, and inspects only what is long between two of them."""
    size = len(body)
    if size <= SCANNED_BYTES_MIN:
        return -(-size // BYTES_PER_TOKEN)
    tokens, text_bytes, start, parts = 0, size, 0, 0
    find = body.find
    for _ in range(QUOTES_MAX):
        end = find(b'"', start)
        if end < 0:
            break
        if end - start >= PART_BYTES_MIN and parts < PARTS_MAX:
            parts += 1
            counted = _count_part(body, start, end, model)
            if counted is not None:
                tokens += counted
                text_bytes -= end - start
        start = end + 1
    return tokens - (-text_bytes // BYTES_PER_TOKEN)


def _count_part(body: bytes, start: int, end: int, model: str | None) -> int | None:
    """Return the tokens of a picture, of audio or of a file; None for text."""
    before = body[max(0, start - _AROUND_BYTES) : start]
    key = _KEY.search(before)
    if key is None:
        return None
    data_url = _DATA_URL.match(body, start, end)
    if data_url is not None:
        return _count(body, start, end, kind=data_url[1].lower(), model=model)
    if _BASE64.match(body, start, end) is None:
        return None
    return _count(body, start, end, kind=_KINDS[key[1]], model=model)


def _count(body: bytes, start: int, end: int, *, kind: bytes, model: str | None) -> int:
    size = end - start
    if kind == b"audio":
        return size // AUDIO_BYTES_PER_TOKEN
    if kind != b"image":
        return size // FILE_BYTES_PER_TOKEN
    around = body[max(0, start - _AROUND_BYTES) : start], body[end : end + _AROUND_BYTES]
    found = [match[1] for each in around if (match := _DETAIL.search(each)) is not None]
    picture = _find_size(body, body.find(b",", start, start + _AROUND_BYTES) + 1 or start, end)
    tokens = find_rule(model).count(picture, found[0].decode() if found else "auto")
    return min(tokens, size // BYTES_PER_TOKEN) if picture is None else tokens


def _find_size(body: bytes, start: int, end: int) -> Size | None:
    """Return the size of a picture in base64, None if its beginning does not tell it."""
    most = JPEG_HEAD_BYTES if body.startswith((b"/9j/", b"\\/9j\\/"), start) else HEAD_BYTES
    encoded = body[start : min(end, start + most)].replace(b"\\", b"")
    try:
        return find_size(base64.b64decode(encoded[: len(encoded) // 4 * 4]))
    except (binascii.Error, ValueError):
        return None


def find_picture_tokens(model: str | None) -> tuple[int, int]:
    """Return the tokens of a picture at low detail, and of the largest one at the usual detail."""
    rule = find_rule(model)
    return rule.count(None, "low"), rule.count(None, "auto")
