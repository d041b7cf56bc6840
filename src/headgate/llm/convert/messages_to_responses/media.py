"""Convert images, documents and search results of Messages to parts of Responses."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from headgate.llm.convert.losses import Losses
from headgate.llm.convert.messages_to_responses.blocks import report_rest
from headgate.llm.convert.messages_to_responses.validation import (
    Fields,
    check_list,
    check_object,
    fail,
    join,
    read,
    read_choice,
    read_object,
    read_optional,
    read_settings,
    read_text,
)
from headgate.llm.pictures import find_size

Part = dict[str, Any]
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
MAGIC: Mapping[str, tuple[bytes, ...]] = {
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/png": (b"\x89PNG",),
    "image/gif": (b"GIF8",),
    "image/webp": (b"RIFF",),
}
IMAGE_BYTES_MAX = 5 << 20
"""The largest image that Anthropic takes, in base64."""
IMAGE_SIDE_MAX = 8_000
"""In pixels."""
HEAD_CHARACTERS = 65_536
"""How much of an image is decoded for its type and its size."""
PDF_HEAD_CHARACTERS = 1_368
PDF_MARK = b"%PDF-"
SOURCES: Mapping[str, Sequence[str]] = {
    "base64": ("media_type", "data"),
    "url": ("url",),
    "file": ("file_id",),
    "text": ("media_type", "data"),
    "content": ("content",),
}
"""The fields of each source, besides `type`."""


def convert_image(block: Fields, place: str, losses: Losses) -> Part:
    source = read_object(block, "source", place)
    report_rest(block, place, losses)
    place = join(place, "source")
    kind = read_choice(source, "type", place, ("base64", "url", "file"))
    losses.add_rest(source, ("type", *SOURCES[kind]), place)
    if kind == "file":
        return {"type": "input_image", "file_id": read_text(source, "file_id", place)}
    if kind == "url":
        url = read_text(source, "url", place, blank=False)
    else:
        media_type = read_choice(source, "media_type", place, IMAGE_TYPES)
        data = read_text(source, "data", place, blank=False)
        check_image(data, media_type, join(place, "data"))
        url = f"data:{media_type};base64,{data}"
    return {"type": "input_image", "image_url": url, "detail": "auto"}


def check_image(data: str, media_type: str, place: str) -> None:
    """Refuse an image that Anthropic would refuse, as far as its beginning shows."""
    if len(data) > IMAGE_BYTES_MAX:
        fail(place, f"image exceeds 5 MB maximum: {len(data)} bytes > {IMAGE_BYTES_MAX} bytes")
    head = decode_head(data, HEAD_CHARACTERS, place)
    for known, marks in MAGIC.items():
        if known != media_type and head.startswith(marks):
            fail(
                place,
                f"The image was specified using the {media_type} media type, but the image "
                f"appears to be a {known} image",
            )
    size = find_size(head)
    if size is not None and max(size) > IMAGE_SIDE_MAX:
        fail(
            place,
            "At least one of the image dimensions exceed max allowed size: "
            f"{IMAGE_SIDE_MAX} pixels",
        )


def decode_head(data: str, characters: int, place: str) -> bytes:
    """Return the beginning of what is in base64. Refuse a text that is none."""
    if len(data) % 4:
        fail(place, "Invalid base64 data")
    try:
        return base64.b64decode(data[:characters], validate=True)
    except (binascii.Error, ValueError):
        fail(place, "Invalid base64 data")


def convert_document(block: Fields, place: str, losses: Losses) -> list[Part]:
    source = read_object(block, "source", place)
    title = read_optional(block, "title", place, str)
    parts: list[Part] = []
    if context := read_optional(block, "context", place, str):
        losses.add("document.context", join(place, "context"))
        parts.append({"type": "input_text", "text": context})
    read_settings(block, "citations", place)
    report_rest(block, place, losses)
    return [*parts, *_convert_source(source, join(place, "source"), title, losses)]


def _convert_source(
    source: Fields, place: str, title: str | None, losses: Losses
) -> Sequence[Part]:
    kind = read_choice(source, "type", place, tuple(SOURCES))
    losses.add_rest(source, ("type", *SOURCES[kind]), place)
    if kind == "file":
        return [{"type": "input_file", "file_id": read_text(source, "file_id", place)}]
    if kind == "url":
        return [{"type": "input_file", "file_url": read_text(source, "url", place, blank=False)}]
    if kind == "base64":
        return [_convert_pdf(source, place, title or "document")]
    heading = f"{title}\n\n" if title else ""
    if kind == "text":
        if source.get("media_type") is not None:
            read_choice(source, "media_type", place, ("text/plain",))
        return [{"type": "input_text", "text": heading + read_text(source, "data", place)}]
    content = read(source, "content", place)
    if isinstance(content, str):
        return [{"type": "input_text", "text": heading + content}]
    parts: list[Part] = [{"type": "input_text", "text": title}] if title else []
    for number, each in enumerate(check_list(content, join(place, "content"))):
        inner = f"{place}.content.{number}"
        block = check_object(each, inner)
        if read_choice(block, "type", inner, ("text", "image")) == "image":
            parts.append(convert_image(block, inner, losses))
        else:
            report_rest(block, inner, losses)
            parts.append({"type": "input_text", "text": read_text(block, "text", inner)})
    return parts


def _convert_pdf(source: Fields, place: str, name: str) -> Part:
    read_choice(source, "media_type", place, ("application/pdf",))
    data = read_text(source, "data", place, blank=False)
    if PDF_MARK not in decode_head(data, PDF_HEAD_CHARACTERS, join(place, "data")):
        fail(join(place, "data"), "The PDF specified was not valid.")
    return {
        "type": "input_file",
        "filename": name if name.lower().endswith(".pdf") else f"{name}.pdf",
        "file_data": f"data:application/pdf;base64,{data}",
    }


def convert_search_result(block: Fields, place: str, losses: Losses) -> list[Part]:
    losses.add("search_result", place)
    read_settings(block, "citations", place)
    report_rest(block, place, losses)
    texts = [f"{read_text(block, 'title', place)} ({read_text(block, 'source', place)})"]
    content = check_list(read(block, "content", place), join(place, "content"))
    for number, each in enumerate(content):
        inner = f"{place}.content.{number}"
        part = check_object(each, inner)
        read_choice(part, "type", inner, ("text",))
        report_rest(part, inner, losses)
        texts.append(read_text(part, "text", inner))
    return [{"type": "input_text", "text": "\n".join(texts)}]
