"""Convert the content blocks of a Messages request to items of Responses."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from headgate.llm.convert.losses import Losses
from headgate.llm.convert.messages_to_responses.blocks import report_rest
from headgate.llm.convert.messages_to_responses.media import (
    Part,
    convert_document,
    convert_image,
    convert_search_result,
)
from headgate.llm.convert.messages_to_responses.tools import ToolNames
from headgate.llm.convert.messages_to_responses.validation import (
    Fields,
    check_list,
    check_object,
    fail,
    join,
    read,
    read_choice,
    read_identifier,
    read_object,
    read_optional,
    read_text,
)

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
        "advisor_tool_result",
        "compaction",
        "mcp_tool_listing",
        "tool_addition",
        "tool_removal",
    }
)
EMPTY_BLOCKS = frozenset({"fallback"})
"""Blocks that tell nothing to a model."""
TOOL_ID_CHARACTERS_MAX, TOOL_NAME_CHARACTERS_MAX = 256, 200
ROLES = ("user", "assistant", "system")
Item = dict[str, Any]


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

    def convert(self, message: Fields, index: int) -> list[Item]:
        """Return the items of a message. Raise `InvalidMessagesRequestError`."""
        place = f"messages.{index}"
        role = read_choice(message, "role", place, ROLES)
        self._losses.add_rest(message, ("role", "content"), place)
        content = read(message, "content", place)
        items = MessageItems()
        if role == "system":
            self.finish()
        awaited, self._open = self._open, {}
        if isinstance(content, str):
            content = [{"type": "text", "text": content}] if content else []
        blocks = [
            check_object(each, f"{place}.content.{number}")
            for number, each in enumerate(check_list(content, join(place, "content")))
        ]
        self._awaited, self._answered = dict(awaited), set[str]()
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
        if kind in EMPTY_BLOCKS:
            return
        if kind in SERVER_TOOL_BLOCKS:
            self._losses.add("server tool history", place)
            text = f"[{kind}] {msgspec.json.encode(strip(block)).decode()}"
            items.parts.append({"type": _TEXT_TYPES[role], "text": text})
            return
        convert = self._CONVERTERS.get((role, kind))
        if convert is None:
            known = [name for of_role, name in self._CONVERTERS if of_role == role]
            if any(name == kind for _, name in self._CONVERTERS):
                fail(place, f"`{kind}` blocks can not be in `{role}` messages")
            read_choice(block, "type", place, [*known, *sorted(SERVER_TOOL_BLOCKS)])
        else:
            convert(self, block, place, items)

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
        call_id = read_identifier(block, "id", place, TOOL_ID_CHARACTERS_MAX)
        name = read_identifier(block, "name", place, TOOL_NAME_CHARACTERS_MAX)
        arguments = read_object(block, "input", place)
        report_rest(block, place, self._losses)
        if call_id in self._called:
            fail(join(place, "id"), "`tool_use` ids must be unique")
        self._called[call_id] = self._open[call_id] = place
        items.calls.append(
            {
                "type": "function_call",
                "id": make_item_id(call_id),
                "call_id": shorten_id(call_id),
                "name": self._names.shorten(name),
                "arguments": msgspec.json.encode(arguments).decode(),
                "status": "completed",
            }
        )

    def _convert_tool_result(self, block: Fields, place: str, items: MessageItems) -> None:
        call_id = read_text(block, "tool_use_id", place, blank=False)
        if call_id in self._answered:
            fail(
                place,
                "each tool_use must have a single result. Found multiple `tool_result` blocks with "
                f"id: {call_id}",
            )
        if call_id not in self._awaited:
            fail(
                place,
                f"unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous "
                "message.",
            )
        del self._awaited[call_id]
        self._answered.add(call_id)
        report_rest(block, place, self._losses)
        output = self._convert_output(block.get("content"), join(place, "content"))
        if read_optional(block, "is_error", place, bool):
            self._losses.add("tool_result.is_error", join(place, "is_error"))
            output = mark_error(output)
        short = shorten_id(call_id)
        items.calls.append({"type": "function_call_output", "call_id": short, "output": output})

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
                text = f"[{kind}] {msgspec.json.encode(strip(block)).decode()}"
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

    _CONVERTERS: ClassVar[Mapping[tuple[str, str], Callable[..., None]]] = {
        ("system", "text"): _convert_text,
        ("user", "text"): _convert_text,
        ("user", "image"): _convert_image,
        ("user", "document"): _convert_document,
        ("user", "search_result"): _convert_search_result,
        ("user", "tool_result"): _convert_tool_result,
        ("assistant", "text"): _convert_answer,
        ("assistant", "tool_use"): _convert_tool_use,
        ("assistant", "thinking"): _convert_thinking,
        ("assistant", "redacted_thinking"): _convert_redacted,
    }
    """The functions by what they convert. Bound to each converter they would keep it and its
    request, until the collector comes."""


RESULT_BLOCKS = ("text", "image", "document", "search_result", "tool_reference", "browser_state")
_TEXT_TYPES = {"user": "input_text", "assistant": "output_text", "system": "input_text"}


def strip(block: Fields) -> Fields:
    """Return a block without what is of no use to a reader."""
    dropped = ("type", "cache_control", "encrypted_content", "encrypted_index")
    return {name: value for name, value in block.items() if name not in dropped}


def read_block_text(block: Fields, place: str) -> str:
    text = read_text(block, "text", place)
    if not text:
        fail(place, "text content blocks must be non-empty")
    if text.isspace():
        fail(place, "text content blocks must contain non-whitespace text")
    return text


def shorten_id(call_id: str) -> str:
    """Return the id of a call, which has at most 64 characters at OpenAI."""
    if len(call_id) <= ID_CHARACTERS_MAX:
        return call_id
    return f"call_{hashlib.sha256(call_id.encode()).hexdigest()[:32]}"


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
