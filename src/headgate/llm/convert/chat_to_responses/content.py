"""Convert the messages of a chat completion's request to items of Responses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, cast

from headgate.llm.convert.chat_to_responses.refusals import refuse
from headgate.llm.convert.losses import Losses
from headgate.llm.convert.openai_validation import (
    Fields,
    check_object,
    check_type,
    fail,
    read,
    read_choice,
    read_elements,
    read_object,
    read_text,
)

CALL_ID_CHARACTERS_MAX = 64
"""The longest id of a call that Responses takes."""
HASH_CHARACTERS = 16
CACHE_MARK = "prompt_cache_breakpoint"
Item = dict[str, Any]
Part = dict[str, Any]


def convert_text_part(part: Fields, place: str, losses: Losses, kind: str) -> Part:
    losses.add_rest(part, {"type", "text", CACHE_MARK}, place)
    return {"type": kind, "text": read_text(part, "text", place)} | _keep_cache_mark(part)


def convert_image(part: Fields, place: str, losses: Losses) -> Part:
    image = read_object(part, "image_url", place)
    losses.add_rest(part, {"type", "image_url", CACHE_MARK}, place)
    place = f"{place}.image_url"
    losses.add_rest(image, {"url", "detail"}, place)
    detail = "auto" if image.get("detail") is None else read_text(image, "detail", place)
    url = read_text(image, "url", place)
    return {"type": "input_image", "image_url": url, "detail": detail} | _keep_cache_mark(part)


def convert_file(part: Fields, place: str, losses: Losses) -> Part:
    file = read_object(part, "file", place)
    losses.add_rest(part, {"type", "file", CACHE_MARK}, place)
    place = f"{place}.file"
    names = ("file_id", "file_data", "filename")
    losses.add_rest(file, names, place)
    given = {name: read_text(file, name, place) for name in names if file.get(name) is not None}
    return {"type": "input_file", **given} | _keep_cache_mark(part)


def refuse_audio(_part: Fields, place: str, _losses: Losses) -> Part:
    refuse(place, "Send what was said as text.")


def convert_input_text(part: Fields, place: str, losses: Losses) -> Part:
    return convert_text_part(part, place, losses, "input_text")


def convert_output_text(part: Fields, place: str, losses: Losses) -> Part:
    return convert_text_part(part, place, losses, "output_text")


def convert_refusal(part: Fields, place: str, losses: Losses) -> Part:
    losses.add_rest(part, {"type", "refusal"}, place)
    return {"type": "refusal", "refusal": read_text(part, "refusal", place)}


PartConverters = Mapping[str, Callable[[Fields, str, Losses], Part]]
INPUT: PartConverters = {
    "text": convert_input_text,
    "image_url": convert_image,
    "input_audio": refuse_audio,
    "file": convert_file,
}
OUTPUT: PartConverters = {"text": convert_output_text, "refusal": convert_refusal}


def _keep_cache_mark(part: Fields) -> Part:
    mark = part.get(CACHE_MARK)
    return {} if mark is None else {CACHE_MARK: mark}


class MessageConverter:
    """Convert the messages of one request, one after the other."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._custom: set[str] = set()
        """Ids of calls of custom tools, whose outputs are items of another type."""
        self._functions: dict[str, str] = {}
        """Ids of the last calls by `function_call`, which has none of its own, by name."""

    def convert(self, value: Any, index: int) -> list[Item]:
        """Return the items of a message. Raise `InvalidRequestError` or
        `NotInResponsesError`."""
        place = f"messages.{index}"
        message = check_object(value, place)
        role = read_choice(message, "role", place, self._CONVERTERS)
        return self._CONVERTERS[role](self, message, place)

    def _convert_input(self, message: Fields, place: str) -> list[Item]:
        self._report(message, {"role", "content", "name"}, place)
        content = self._convert_content(read(message, "content", place), f"{place}.content", INPUT)
        return [{"type": "message", "role": message["role"], "content": content}]

    def _convert_assistant(self, message: Fields, place: str) -> list[Item]:
        known = ("role", "content", "name", "refusal", "tool_calls", "function_call")
        self._report(message, {*known, "audio", "annotations"}, place)
        if message.get("audio") is not None:
            self._losses.add("audio of an earlier answer", f"{place}.audio")
        parts = self._convert_answer(message, place)
        calls = [
            self._convert_call(each, f"{place}.tool_calls.{number}")
            for number, each in enumerate(read_elements(message, "tool_calls", place))
        ]
        if message.get("function_call") is not None:
            calls.append(self._convert_function_call(message, place))
        if not parts and not calls and message.get("content") is None and not message.get("audio"):
            needed = "A message of the assistant needs content, a refusal, or calls of tools."
            fail(f"{place}.content", needed)
        items: list[Item] = []
        if parts:
            items.append({"type": "message", "role": "assistant", "content": parts})
        return items + calls

    def _convert_answer(self, message: Fields, place: str) -> list[Part]:
        """Return the parts of an earlier answer; its citations belong to its only text."""
        content = message.get("content")
        parts: list[Part] = []
        if isinstance(content, str):
            parts = [{"type": "output_text", "text": content}] if content else []
        elif content is not None:
            converted = self._convert_content(content, f"{place}.content", OUTPUT)
            assert isinstance(converted, list)
            parts = converted
        annotations = [
            self._convert_annotation(each, f"{place}.annotations.{number}")
            for number, each in enumerate(read_elements(message, "annotations", place))
        ]
        if annotations and parts and parts[0]["type"] == "output_text":
            parts[0]["annotations"] = annotations
        elif annotations:
            self._losses.add("unknown field", f"{place}.annotations")
        if message.get("refusal") is not None:
            parts.append({"type": "refusal", "refusal": read_text(message, "refusal", place)})
        return parts

    def _convert_annotation(self, value: Any, place: str) -> Fields:
        annotation = check_object(value, place)
        kind = read_choice(annotation, "type", place, ("url_citation",))
        self._losses.add_rest(annotation, {"type", kind}, place)
        return {"type": kind, **read_object(annotation, kind, place)}

    def _convert_call(self, value: Any, place: str) -> Item:
        call = check_object(value, place)
        kind = "function" if call.get("type") is None else ""
        kind = kind or read_choice(call, "type", place, ("function", "custom"))
        self._losses.add_rest(call, {"id", "type", kind, "index"}, place)
        call_id = self._shorten(read_text(call, "id", place), f"{place}.id")
        tool = read_object(call, kind, place)
        place = f"{place}.{kind}"
        name = read_text(tool, "name", place)
        argument = "arguments" if kind == "function" else "input"
        self._losses.add_rest(tool, {"name", argument}, place)
        if kind == "custom":
            self._custom.add(call_id)
        return {
            "type": f"{kind}_call" if kind == "function" else "custom_tool_call",
            "call_id": call_id,
            "name": name,
            argument: read_text(tool, argument, place),
        }

    def _convert_function_call(self, message: Fields, place: str) -> Item:
        call = read_object(message, "function_call", place)
        place = f"{place}.function_call"
        self._losses.add_rest(call, {"name", "arguments"}, place)
        name = read_text(call, "name", place)
        call_id = f"call_{len(self._functions)}_{name}"[:CALL_ID_CHARACTERS_MAX]
        self._functions[name] = call_id
        arguments = read_text(call, "arguments", place)
        return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}

    def _convert_tool(self, message: Fields, place: str) -> list[Item]:
        self._report(message, {"role", "content", "tool_call_id", "name"}, place)
        given = read_text(message, "tool_call_id", place)
        call_id = self._shorten(given, f"{place}.tool_call_id")
        output = self._convert_content(read(message, "content", place), f"{place}.content", INPUT)
        kind = "custom_tool_call" if call_id in self._custom else "function_call"
        return [{"type": f"{kind}_output", "call_id": call_id, "output": output}]

    def _convert_function(self, message: Fields, place: str) -> list[Item]:
        self._losses.add_rest(message, {"role", "content", "name"}, place)
        name = read_text(message, "name", place)
        if name not in self._functions:
            fault = f"No message before this one calls the function '{name[:64]}'."
            fail(f"{place}.name", fault)
        # A function that returns nothing may say so with null.
        content = "" if message.get("content") is None else read_text(message, "content", place)
        call_id = self._functions[name]
        return [{"type": "function_call_output", "call_id": call_id, "output": content}]

    def _convert_content(
        self, content: Any, place: str, converters: PartConverters
    ) -> str | list[Part]:
        if isinstance(content, str):
            return content
        if not isinstance(content, list):
            check_type(content, list, place)
        parts: list[Part] = []
        for number, each in enumerate(cast("list[Any]", content)):
            inner = f"{place}.{number}"
            part = check_object(each, inner)
            kind = read_choice(part, "type", inner, converters)
            parts.append(converters[kind](part, inner, self._losses))
        return parts

    def _report(self, message: Fields, known: Collection[str], place: str) -> None:
        if message.get("name") is not None:
            self._losses.add("message name", f"{place}.name")
        self._losses.add_rest(message, known, place)

    def _shorten(self, call_id: str, place: str) -> str:
        """Return an id that Responses takes, the same for a call and for its output."""
        if len(call_id) <= CALL_ID_CHARACTERS_MAX:
            return call_id
        self._losses.add("long call id", place)
        digest = hashlib.sha256(call_id.encode()).hexdigest()[:HASH_CHARACTERS]
        return f"{call_id[: CALL_ID_CHARACTERS_MAX - HASH_CHARACTERS - 1]}_{digest}"

    _CONVERTERS: ClassVar[Mapping[str, Callable[..., list[Item]]]] = {
        "developer": _convert_input,
        "system": _convert_input,
        "user": _convert_input,
        "assistant": _convert_assistant,
        "tool": _convert_tool,
        "function": _convert_function,
    }
    """The functions by what they convert. Bound to each converter they would keep it and its
    request, until the collector comes."""
