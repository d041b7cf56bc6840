"""Meter images: one JSON object, or a stream of partial images and a completed one."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.llm.answers import (
    DONE,
    AnswerFields,
    BodyMeter,
    apply_fields,
    as_text,
    check_event_error,
    decode_with,
    event_prefixes,
    get_field,
)
from headgate.llm.meter import Meter
from headgate.llm.usage import ParsedUsage, Usage

_ENDS = frozenset({"image_generation.completed", "image_edit.completed"})
_BULK_TYPES = (b"image_generation.partial_image", b"image_edit.partial_image")


class _Images(AnswerFields):
    data: list[msgspec.Raw] | None = None


class _LenientImages(_Images):
    data: Any = None


class _ImageEvent(AnswerFields):
    type: Any = None


_images_decoder = msgspec.json.Decoder(_Images)
_event_decoder = msgspec.json.Decoder(_ImageEvent)


class ImagesMeter(BodyMeter):
    """Read generations, edits and variations.

    An answer without a usage still counts its images, for models that are priced by the image. If
    the provider does not divide the output, all of it is image tokens.
    """

    bulk_prefixes = event_prefixes(_BULK_TYPES)

    def read_body(self, body: bytes, parsed: ParsedUsage) -> bool:
        images = decode_with(_images_decoder, body, _LenientImages)
        if images is None:
            return False
        count = len(images.data) if isinstance(images.data, list) else 0
        _apply_images(images, count, parsed)
        return True

    def read_event(self, event: bytes, data: bytes, parsed: ParsedUsage) -> bool:
        """Read an event; the last one has the completed image, or is an error."""
        found = decode_with(_event_decoder, data, _ImageEvent)
        if found is None:
            return check_event_error(event, parsed) or data == DONE
        is_end = (as_text(found.type) or event.decode("ascii", "replace")) in _ENDS
        _apply_images(found, int(is_end), parsed)
        return is_end or check_event_error(event, parsed)


def _apply_images(fields: AnswerFields, count: int, parsed: ParsedUsage) -> None:
    usage_before = parsed.usage
    apply_fields(fields, parsed)
    usage = parsed.usage
    if usage is None and fields.usage is None and count:
        parsed.usage = Usage(images=count)
    if usage is None or usage is usage_before:
        return
    image_tokens = usage.output_image_tokens
    if get_field(fields.usage, "output_tokens_details") is None:
        image_tokens = usage.output_tokens
    parsed.usage = msgspec.structs.replace(usage, images=count, output_image_tokens=image_tokens)


METER: Meter = ImagesMeter()
