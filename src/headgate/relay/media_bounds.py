"""Bound what a call for images or for the text of an audio file can use.

Such requests state no tokens. Images are counted by OpenAI's table of tokens by quality and size
(https://developers.openai.com/api/docs/guides/image-generation), minutes by the bytes of the file.
"""

from __future__ import annotations

import re

import msgspec

from headgate.llm import form
from headgate.llm.endpoint import Measure
from headgate.llm.estimate import find_picture_tokens
from headgate.llm.request import JsonRequest, read_field
from headgate.llm.usage import Usage
from headgate.relay.call import Call
from headgate.relay.ports import Price
from headgate.relay.usage_bounds import AUDIO_MILLISECONDS_MAX, read_count

TOKENS_PER_MEGAPIXEL = {"low": 272, "medium": 1_056}
"""Output tokens for 1024 x 1024 pixels by quality; every other quality counts as high."""
HIGH_TOKENS_PER_MEGAPIXEL = 4_160
MEGAPIXEL = 1_024 * 1_024
PIXELS_ASSUMED = 1_024 * 1_536
"""The largest size that is chosen where the request leaves it to the model."""
PARTIAL_IMAGE_TOKENS = 100
INPUT_IMAGES_MAX = 16
IMAGES_MAX = 10_000
AUDIO_BYTES_PER_SECOND_MIN = 500
"""Speech has at least 4 kbit/s in every format that is accepted."""
MEASURED_MEDIA = (Measure.IMAGES, Measure.AUDIO)
_SIZE = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")
_FIELDS = ("n", "size", "quality", "partial_images")


class MediaBound(msgspec.Struct, frozen=True):
    """Hold the most tokens that a call can use, and its cost apart from tokens."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int = 0


def bound_media(call: Call, price: Price) -> MediaBound | None:
    """Return the bound of a call for images or about audio. Return None for all other calls, and
    where the price has no rate for it."""
    measure = call.endpoint.measure
    if measure is Measure.IMAGES:
        return _bound_images(call, price)
    if measure is Measure.AUDIO:
        return _bound_audio(call, price)
    return None


def _bound_images(call: Call, price: Price) -> MediaBound | None:
    fields, text_bytes, files = _read_image_fields(call)
    count = min(max(1, read_count(fields.get("n")) or 1), IMAGES_MAX)
    per_image = price.cost(Usage(images=count), None)
    partial = read_count(fields.get("partial_images")) or 0
    each = bound_image_tokens(fields.get("quality"), fields.get("size"))
    output_tokens = count * (each + PARTIAL_IMAGE_TOKENS * max(0, partial))
    input_tokens = text_bytes + files * find_picture_tokens("gpt-image")[1]
    if price.bound(input_tokens, output_tokens, None) is not None:
        return MediaBound(input_tokens, output_tokens, per_image or 0)
    return None if per_image is None else MediaBound(cost_nano=per_image)


def bound_image_tokens(quality: object, size: object) -> int:
    """Return the most output tokens of one image."""
    pixels = PIXELS_ASSUMED
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if found is not None:
        pixels = int(found[1]) * int(found[2])
    rate = HIGH_TOKENS_PER_MEGAPIXEL
    if isinstance(quality, str):
        rate = TOKENS_PER_MEGAPIXEL.get(quality, rate)
    return -(-pixels * rate // MEGAPIXEL)


def _read_image_fields(call: Call) -> tuple[dict[str, object], int, int]:
    """Return the fields on which the cost depends, the bytes of text, and the number of images
    that are sent along."""
    body = call.body
    if isinstance(body, JsonRequest):
        raw = body.fields
        fields = {name: read_field(raw.get(name)) for name in _FIELDS}
        has_images = "image" in raw or "images" in raw or "mask" in raw
        return fields, len(bytes(raw.get("prompt", b""))), INPUT_IMAGES_MAX if has_images else 0
    if not isinstance(body, bytes):
        return {}, 0, 0
    content_type = _find_content_type(call)
    size = form.measure_parts(body, content_type)
    read: dict[str, object] = {**form.find_fields(body, content_type, _FIELDS)}
    return read, size.text_bytes, size.files


def _bound_audio(call: Call, price: Price) -> MediaBound | None:
    body = call.body
    if not isinstance(body, bytes):
        return None
    size = form.measure_parts(body, _find_content_type(call))
    milliseconds = -(-size.file_bytes * 1_000 // AUDIO_BYTES_PER_SECOND_MIN)
    usage = Usage(audio_milliseconds=min(milliseconds, AUDIO_MILLISECONDS_MAX))
    cost = price.cost(usage, None)
    return None if cost is None else MediaBound(cost_nano=cost)


def _find_content_type(call: Call) -> str:
    return next((v.decode("latin-1") for name, v in call.headers if name == b"content-type"), "")
