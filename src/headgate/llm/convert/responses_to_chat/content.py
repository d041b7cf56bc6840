"""Convert the parts of a message of Responses to those of a chat message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headgate.llm.convert.losses import Losses
from headgate.llm.convert.openai_validation import (
    Fields,
    check_object,
    check_type,
    join,
    read,
    read_object,
    read_text,
)
from headgate.llm.convert.responses_to_chat.refusals import refuse

Part = dict[str, Any]
BREAKPOINT = "prompt_cache_breakpoint"


def convert_content(content: Any, role: str, place: str, losses: Losses) -> str | list[Part]:
    """Return the content of a chat message; a single text as such, which every server takes."""
    if isinstance(content, str):
        return content
    parts: list[Part] = []
    for number, each in enumerate(check_type(content, list, place)):
        inner = join(place, number)
        part = check_object(each, inner)
        kind = read_text(part, "type", inner)
        convert = _CONVERTERS.get(kind)
        if convert is None or (kind in _ATTACHED and role != "user"):
            refuse(join(inner, "type"), f"A message of the {role} cannot have '{kind[:40]}'.")
        parts.append(convert(part, inner, losses) | _read_breakpoint(part))
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return parts[0]["text"]
    return parts


def _read_breakpoint(part: Fields) -> Part:
    found = part.get(BREAKPOINT)
    return {} if found is None else {BREAKPOINT: found}


def _convert_text(part: Fields, place: str, losses: Losses) -> Part:
    if part.get("annotations"):
        losses.add("annotations", join(place, "annotations"))
    losses.add_rest(part, ("type", "text", BREAKPOINT, "annotations", "logprobs"), place)
    return {"type": "text", "text": read_text(part, "text", place)}


def _convert_refusal(part: Fields, place: str, losses: Losses) -> Part:
    losses.add_rest(part, ("type", "refusal"), place)
    return {"type": "refusal", "refusal": read_text(part, "refusal", place)}


def _convert_image(part: Fields, place: str, losses: Losses) -> Part:
    if part.get("file_id") is not None:
        refuse(join(place, "file_id"), "Send the picture as `image_url`.")
    losses.add_rest(part, ("type", "image_url", "detail", BREAKPOINT), place)
    image: Part = {"url": read_text(part, "image_url", place)}
    if part.get("detail") is not None:
        image["detail"] = part["detail"]
    return {"type": "image_url", "image_url": image}


def _convert_file(part: Fields, place: str, losses: Losses) -> Part:
    if part.get("file_url") is not None:
        refuse(join(place, "file_url"), "Send the file as `file_data`.")
    if part.get("detail") is not None:
        losses.add("input_file.detail", join(place, "detail"))
    names = ("file_data", "file_id", "filename")
    losses.add_rest(part, (*names, "type", "detail", BREAKPOINT), place)
    if part.get("file_id") is None:
        read(part, "file_data", place)
    return {"type": "file", "file": {n: part[n] for n in names if part.get(n) is not None}}


def _convert_audio(part: Fields, place: str, losses: Losses) -> Part:
    losses.add_rest(part, ("type", "input_audio", BREAKPOINT), place)
    return {"type": "input_audio", "input_audio": read_object(part, "input_audio", place)}


_CONVERTERS: Mapping[str, Callable[[Fields, str, Losses], Part]] = {
    "input_text": _convert_text,
    "output_text": _convert_text,
    "refusal": _convert_refusal,
    "input_image": _convert_image,
    "input_file": _convert_file,
    "input_audio": _convert_audio,
}
_ATTACHED = ("input_image", "input_file", "input_audio")
