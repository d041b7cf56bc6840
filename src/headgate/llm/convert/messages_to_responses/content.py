"""Convert the content blocks of a Messages request to items of Responses."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from headgate.llm.convert.losses import Losses
from headgate.llm.convert.messages_to_responses.tools import ToolNames
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

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
REDACTED_PREFIX = "headgate:"
"""Begins the data of a `redacted_thinking` block that was made from an OpenAI reasoning item."""
ID_CHARACTERS_MAX = 64
UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
ERROR_PREFIX = "[error] "
SERVER_TOOL_BLOCKS = frozenset(
    {
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "mcp_tool_use",
        "mcp_tool_result",
        "container_upload",
    }
)
Item = dict[str, Any]
Part = dict[str, Any]


class MessageItems(msgspec.Struct):
    """Collect the items of one message, in the order that Responses wants them."""

    reasoning: list[Item] = msgspec.field(default_factory=list[Item])
    parts: list[Part] = msgspec.field(default_factory=list[Part])
    calls: list[Item] = msgspec.field(default_factory=list[Item])

    def build(self, role: str) -> list[Item]:
        message = [{"type": "message", "role": role, "content": self.parts}] if self.parts else []
        return [*self.reasoning, *message, *self.calls]


class ContentConverter:
    """Convert the messages of one request, block by block."""

    def __init__(self, names: ToolNames, losses: Losses) -> None:
        self._names = names
        self._losses = losses
        self._called: dict[str, str] = {}
        """Ids of all tool uses, with their places."""
        self._open: dict[str, str] = {}
        """Those of the last message, which wait for their results."""
        self._converters: Mapping[tuple[str, str], Callable[[Fields, str, MessageItems], None]] = {
            ("system", "text"): self._convert_text,
            ("user", "text"): self._convert_text,
            ("user", "image"): self._convert_image,
            ("user", "document"): self._convert_document,
            ("user", "search_result"): self._convert_search_result,
            ("user", "tool_result"): self._convert_tool_result,
            ("assistant", "text"): self._convert_answer,
            ("assistant", "tool_use"): self._convert_tool_use,
            ("assistant", "thinking"): self._convert_thinking,
            ("assistant", "redacted_thinking"): self._convert_redacted,
        }

    def convert(self, message: Fields, index: int) -> list[Item]:
        """Return the items of a message. Raise `InvalidMessagesRequestError`."""
        place = f"messages.{index}"
        role = read_choice(message, "role", place, ("user", "assistant", "system"))
        self._losses.add_rest(message, ("role", "content"), place)
        content = read(message, "content", place)
        items = MessageItems()
        awaited, self._open = self._open, {}
        if isinstance(content, str):
            content = [{"type": "text", "text": content}] if content else []
        blocks = [
            check_object(each, f"{place}.content.{number}")
            for number, each in enumerate(check_list(content, join(place, "content")))
        ]
        self._awaited = dict(awaited)
        for number, block in enumerate(blocks):
            self._convert_block(block, role, f"{place}.content.{number}", items)
        if self._awaited:
            listed = ", ".join(self._awaited)
            fail(
                f"messages.{index - 1}",
                f"`tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{listed}. Each `tool_use` block must have a corresponding `tool_result` block in "
                "the next message.",
            )
        return items.build(role)

    def finish(self) -> None:
        """Raise `InvalidMessagesRequestError` if tool uses of the last message have no results."""
        if self._open:
            place = next(iter(self._open.values())).rpartition(".content.")[0]
            fail(
                place,
                "`tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(self._open)}. Each `tool_use` block must have a corresponding "
                "`tool_result` block in the next message.",
            )

    def _convert_block(self, block: Fields, role: str, place: str, items: MessageItems) -> None:
        kind = read_text(block, "type", place)
        if kind in SERVER_TOOL_BLOCKS:
            self._losses.add("server tool history", place)
            text = f"[{kind}] {msgspec.json.encode(strip(block)).decode()}"
            items.parts.append({"type": _TEXT_TYPES[role], "text": text})
            return
        convert = self._converters.get((role, kind))
        if convert is None:
            known = [name for of_role, name in self._converters if of_role == role]
            if any(name == kind for _, name in self._converters):
                fail(place, f"`{kind}` blocks can not be in `{role}` messages")
            read_choice(block, "type", place, [*known, *sorted(SERVER_TOOL_BLOCKS)])
        else:
            convert(block, place, items)

    def _convert_text(self, block: Fields, place: str, items: MessageItems) -> None:
        report_rest(block, place, self._losses)
        items.parts.append({"type": "input_text", "text": read_block_text(block, place)})

    def _convert_answer(self, block: Fields, place: str, items: MessageItems) -> None:
        text = read_block_text(block, place)
        report_rest(block, place, self._losses)
        items.parts.append({"type": "output_text", "text": text, "annotations": []})

    def _convert_image(self, block: Fields, place: str, items: MessageItems) -> None:
        items.parts.append(convert_image(block, place, self._losses))

    def _convert_document(self, block: Fields, place: str, items: MessageItems) -> None:
        items.parts += convert_document(block, place, self._losses)

    def _convert_search_result(self, block: Fields, place: str, items: MessageItems) -> None:
        items.parts += convert_search_result(block, place, self._losses)

    def _convert_tool_use(self, block: Fields, place: str, items: MessageItems) -> None:
        call_id = read_text(block, "id", place, blank=False)
        name = read_text(block, "name", place, blank=False)
        arguments = read_object(block, "input", place)
        report_rest(block, place, self._losses)
        if call_id in self._called:
            fail(join(place, "id"), "`tool_use` ids must be unique")
        self._called[call_id] = self._open[call_id] = place
        items.calls.append(
            {
                "type": "function_call",
                "id": make_item_id(call_id),
                "call_id": call_id,
                "name": self._names.shorten(name),
                "arguments": msgspec.json.encode(arguments).decode(),
                "status": "completed",
            }
        )

    def _convert_tool_result(self, block: Fields, place: str, items: MessageItems) -> None:
        call_id = read_text(block, "tool_use_id", place, blank=False)
        if call_id not in self._awaited:
            fail(
                place,
                f"unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous "
                "message.",
            )
        del self._awaited[call_id]
        report_rest(block, place, self._losses)
        output = self._convert_output(block.get("content"), join(place, "content"))
        if read_optional(block, "is_error", place, bool):
            self._losses.add("tool_result.is_error", join(place, "is_error"))
            output = mark_error(output)
        items.calls.append({"type": "function_call_output", "call_id": call_id, "output": output})

    def _convert_output(self, content: Any, place: str) -> str | list[Part]:
        if content is None or isinstance(content, str):
            return content or ""
        parts: list[Part] = []
        for number, each in enumerate(check_list(content, place)):
            inner = f"{place}.{number}"
            block = check_object(each, inner)
            kind = read_choice(block, "type", inner, RESULT_BLOCKS)
            if kind == "text":
                report_rest(block, inner, self._losses)
                parts.append({"type": "input_text", "text": read_text(block, "text", inner)})
            elif kind == "image":
                parts.append(convert_image(block, inner, self._losses))
            elif kind == "document":
                parts += convert_document(block, inner, self._losses)
            elif kind == "search_result":
                parts += convert_search_result(block, inner, self._losses)
            else:
                self._losses.add("server tool history", inner)
                text = f"[{kind}] {block.get('tool_name', '')}"
                parts.append({"type": "input_text", "text": text})
        if all(part["type"] == "input_text" for part in parts):
            return "\n".join([part["text"] for part in parts])
        return parts

    def _convert_thinking(self, block: Fields, place: str, items: MessageItems) -> None:
        thinking = read_text(block, "thinking", place)
        signature = read_text(block, "signature", place)
        report_rest(block, place, self._losses)
        if not signature:
            self._losses.add("thinking without signature", place)
            return
        summary = [{"type": "summary_text", "text": thinking}] if thinking else []
        items.reasoning.append(
            {"type": "reasoning", "summary": summary, "encrypted_content": signature}
        )

    def _convert_redacted(self, block: Fields, place: str, items: MessageItems) -> None:
        data = read_text(block, "data", place)
        report_rest(block, place, self._losses)
        if not data.startswith(REDACTED_PREFIX):
            self._losses.add("foreign redacted_thinking", place)
            return
        encrypted = data.removeprefix(REDACTED_PREFIX)
        items.reasoning.append({"type": "reasoning", "summary": [], "encrypted_content": encrypted})


RESULT_BLOCKS = ("text", "image", "document", "search_result", "tool_reference")
_TEXT_TYPES = {"user": "input_text", "assistant": "output_text", "system": "input_text"}
_KNOWN = {
    "text": ("text", "citations"),
    "image": ("source",),
    "document": ("source", "title", "context", "citations"),
    "search_result": ("source", "title", "content", "citations"),
    "tool_use": ("id", "name", "input", "caller", "toolset_name"),
    "tool_result": ("tool_use_id", "content", "is_error", "toolset_name"),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
}
"""The fields of each block, besides `type` and `cache_control`."""
_SOURCES = {
    "base64": ("media_type", "data"),
    "url": ("url",),
    "file": ("file_id",),
    "text": ("media_type", "data"),
    "content": ("content",),
}
_DIRECT = {"type": "direct"}


def report_rest(block: Fields, place: str, losses: Losses) -> None:
    """Report what a block has that no item of Responses can say."""
    losses.add_rest(block, ("type", "cache_control", *_KNOWN[block["type"]]), place)
    if block.get("citations") not in (None, [], {}, {"enabled": False}):
        losses.add("citations", join(place, "citations"))
    for name in ("caller", "toolset_name"):
        if block.get(name) not in (None, _DIRECT):
            losses.add("tool options", join(place, name))


def strip(block: Fields) -> Fields:
    """Return a block without what is of no use to a reader."""
    dropped = ("type", "cache_control", "encrypted_content", "encrypted_index")
    return {name: value for name, value in block.items() if name not in dropped}


def read_block_text(block: Fields, place: str) -> str:
    text = read_text(block, "text", place)
    if not text:
        fail(place, "text content blocks must be non-empty")
    return text


def make_item_id(call_id: str) -> str:
    """Return an id for the item of a call: its own id, as OpenAI expects one."""
    item_id = UNSAFE.sub("_", call_id if call_id.startswith("fc_") else f"fc_{call_id}")
    if len(item_id) <= ID_CHARACTERS_MAX:
        return item_id
    return f"fc_{hashlib.sha256(call_id.encode()).hexdigest()[:32]}"


def mark_error(output: str | list[Part]) -> str | list[Part]:
    if isinstance(output, str):
        return ERROR_PREFIX + output
    return [{"type": "input_text", "text": ERROR_PREFIX.strip()}, *output]


def convert_image(block: Fields, place: str, losses: Losses) -> Part:
    source = read_object(block, "source", place)
    report_rest(block, place, losses)
    place = join(place, "source")
    kind = read_choice(source, "type", place, ("base64", "url", "file"))
    losses.add_rest(source, ("type", *_SOURCES[kind]), place)
    if kind == "file":
        return {"type": "input_image", "file_id": read_text(source, "file_id", place)}
    if kind == "url":
        url = read_text(source, "url", place, blank=False)
    else:
        media_type = read_choice(source, "media_type", place, IMAGE_TYPES)
        url = f"data:{media_type};base64,{read_text(source, 'data', place, blank=False)}"
    return {"type": "input_image", "image_url": url, "detail": "auto"}


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
    kind = read_choice(source, "type", place, tuple(_SOURCES))
    losses.add_rest(source, ("type", *_SOURCES[kind]), place)
    if kind == "file":
        return [{"type": "input_file", "file_id": read_text(source, "file_id", place)}]
    if kind == "url":
        return [{"type": "input_file", "file_url": read_text(source, "url", place, blank=False)}]
    if kind == "base64":
        read_choice(source, "media_type", place, ("application/pdf",))
        data = read_text(source, "data", place, blank=False)
        name = title or "document"
        return [
            {
                "type": "input_file",
                "filename": name if name.lower().endswith(".pdf") else f"{name}.pdf",
                "file_data": f"data:application/pdf;base64,{data}",
            }
        ]
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
        inner_block = check_object(each, inner)
        if read_choice(inner_block, "type", inner, ("text", "image")) == "image":
            parts.append(convert_image(inner_block, inner, losses))
        else:
            report_rest(inner_block, inner, losses)
            parts.append({"type": "input_text", "text": read_text(inner_block, "text", inner)})
    return parts


def convert_search_result(block: Fields, place: str, losses: Losses) -> list[Part]:
    losses.add("search_result", place)
    report_rest(block, place, losses)
    heading = f"{read_text(block, 'title', place)} ({read_text(block, 'source', place)})"
    texts: list[str] = []
    for number, each in enumerate(check_list(read(block, "content", place), place)):
        inner = f"{place}.content.{number}"
        part = check_object(each, inner)
        read_choice(part, "type", inner, ("text",))
        report_rest(part, inner, losses)
        texts.append(read_text(part, "text", inner))
    return [{"type": "input_text", "text": "\n".join([heading, *texts])}]
