"""Estimate the tokens of a request's input, before its provider has counted them.

Text is estimated by its bytes. Pictures, audio and files in base64 are not text: a picture of 3 MB
is some 1,400 tokens, and not a million. They are found without decoding the body, and only in
bodies that are large enough to hold any.

Pictures are counted by OpenAI's rules (https://developers.openai.com/api/docs/guides/images-
vision), at the largest that a picture of that detail can be after scaling: 85 tokens at low detail,
else 85 and 170 for each of at most 8 tiles; 1,536 patches with the model's factor for models that
count by patches.
"""

from __future__ import annotations

import re

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
LOW, HIGH = 85, 85 + 8 * 170
PICTURE_TOKENS: tuple[tuple[str, int, int], ...] = (
    ("gpt-4o-mini", 2_833, 2_833 + 8 * 5_667),
    ("gpt-4.1-mini", 415, 2_489),
    ("gpt-4.1-nano", 630, 3_779),
    ("gpt-5-mini", 415, 2_489),
    ("gpt-5-nano", 630, 3_779),
    ("gpt-5.4-mini", 415, 2_489),
    ("gpt-5.4-nano", 630, 3_779),
    ("o4-mini", 441, 2_642),
    ("gpt-image", 65, 65 + 8 * 129 + 6_240),
)
"""By the beginning of the model's id: at low detail, and at most. Other models: `LOW`, `HIGH`."""

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
_LOW = re.compile(rb'"detail"\s{0,8}:\s{0,8}"low"')
_AROUND_BYTES = 96
"""How far from a picture its `detail` is searched."""


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
    low, high = find_picture_tokens(model)
    around = body[max(0, start - _AROUND_BYTES) : start], body[end : end + _AROUND_BYTES]
    is_low = any(_LOW.search(each) is not None for each in around)
    return min(low if is_low else high, size // BYTES_PER_TOKEN)


def find_picture_tokens(model: str | None) -> tuple[int, int]:
    """Return the tokens of a picture at low detail, and of the largest one at any other."""
    name = (model or "").rpartition("/")[2]
    for prefix, low, high in PICTURE_TOKENS:
        if name.startswith(prefix):
            return low, high
    return LOW, HIGH
