"""Convert the input items of a Responses request to chat messages.

An answer of the model is one message: reasoning, text and calls of tools together. The outputs of
its calls follow it at once, wherever they stand among the items, since chat servers want it so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

import msgspec

from headgate.llm.convert.losses import Losses
from headgate.llm.convert.openai_validation import (
    Fields,
    check_object,
    fail,
    fail_value,
    join,
    read,
    read_choice,
    read_elements,
    read_optional,
    read_settings,
    read_text,
)
from headgate.llm.convert.responses_to_chat.content import convert_content
from headgate.llm.convert.responses_to_chat.refusals import refuse
from headgate.llm.convert.responses_to_chat.tools import (
    OPTIONS,
    FunctionNames,
    ToolConverter,
    ToolName,
    report_options,
    wrap_input,
)

Message = dict[str, Any]
ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
REASONING_PREFIX = "headgate:"
"""Begins the encrypted content of reasoning that a chat server showed; its field's name follows."""
REASONING_FIELDS = ("reasoning_content", "reasoning")
"""The fields in which chat servers show reasoning, none of them OpenAI's."""
OUTPUTS = {
    "function_call_output": "function_call",
    "custom_tool_call_output": "custom_tool_call",
}
HOSTED_CALLS = frozenset(
    {
        "file_search_call",
        "computer_call",
        "web_search_call",
        "image_generation_call",
        "code_interpreter_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_call",
        "tool_search_call",
        "program",
    }
)
HOSTED_OUTPUTS = frozenset(
    {
        "computer_call_output",
        "local_shell_call_output",
        "shell_call_output",
        "apply_patch_call_output",
        "mcp_approval_response",
        "program_output",
    }
)
KEPT_NOWHERE = "Nothing is kept at this provider: send the whole conversation as `input`."
ENCRYPTED = "Only OpenAI can decrypt it: send the conversation that it stands for."
REFUSED = {
    "item_reference": KEPT_NOWHERE,
    "compaction": ENCRYPTED,
    "compaction_trigger": "Leave it out, and shorten the conversation yourself.",
}
_IDENTITY = ("id", "type", "status")


class ItemConverter:
    """Convert the items of one request, in order."""

    def __init__(self, tools: ToolConverter, names: FunctionNames, losses: Losses) -> None:
        self.effort: str | None = None
        self.text: Fields | None = None
        """What a `configuration_update` asks for."""
        self._tools = tools
        self._names = names
        self._losses = losses
        self._messages: list[Message] = []
        self._answer: Message = {}
        """The open message of the model; empty for none."""
        self._thoughts: dict[str, list[str]] = {}
        """The reasoning of the open message, by the fields that it goes into."""
        self._outputs: dict[str, tuple[Fields, str]] = {}
        """The outputs of tools with their places, by the ids of their calls."""
        self._called: set[str] = set()

    def convert(self, items: Sequence[Any]) -> list[Message]:
        """Return the messages for all items. Raise `InvalidRequestError`."""
        checked = [check_object(each, f"input.{index}") for index, each in enumerate(items)]
        for index, item in enumerate(checked):
            if str(item.get("type")) in OUTPUTS:
                self._note_output(item, f"input.{index}")
        for index, item in enumerate(checked):
            self._convert_item(item, f"input.{index}")
        self._close_answer()
        for _, place in self._outputs.values():
            fail(place, f"No tool call found for the output at '{place}'.")
        return self._messages

    def _convert_item(self, item: Fields, place: str) -> None:
        kind = read_optional(item, "type", place, str)
        if kind is None:
            kind = "message" if "role" in item else "item_reference"
        if kind in HOSTED_CALLS or kind in HOSTED_OUTPUTS:
            self._convert_hosted(item, kind, place)
        elif kind in REFUSED:
            refuse(place, REFUSED[kind])
        elif kind in self._CONVERTERS:
            self._CONVERTERS[kind](self, item, place)
        else:
            known = [*self._CONVERTERS, *sorted(HOSTED_CALLS | HOSTED_OUTPUTS)]
            fail_value(join(place, "type"), kind, known)

    def _convert_message(self, item: Fields, place: str) -> None:
        role = read_choice(item, "role", place, tuple(ROLES))
        if item.get("phase") is not None:
            self._losses.add("phase", join(place, "phase"))
        self._losses.add_rest(item, (*_IDENTITY, "role", "content", "phase"), place)
        inner = join(place, "content")
        content = convert_content(read(item, "content", place), role, inner, self._losses)
        if role == "assistant":
            self._add_text(content)
        else:
            self._close_answer()
            self._messages.append({"role": ROLES[role], "content": content})

    def _add_text(self, content: str | list[Message]) -> None:
        if "content" in self._answer or "tool_calls" in self._answer:
            self._close_answer()
        self._answer["content"] = content

    def _convert_reasoning(self, item: Fields, place: str) -> None:
        self._losses.add_rest(item, (*_IDENTITY, "summary", "content", "encrypted_content"), place)
        encrypted = read_optional(item, "encrypted_content", place, str) or ""
        field = encrypted.removeprefix(REASONING_PREFIX)
        is_shown = encrypted.startswith(REASONING_PREFIX) and field in REASONING_FIELDS
        if encrypted and not is_shown:
            self._losses.add("reasoning item", join(place, "encrypted_content"))
        texts = _read_texts(item, "content", place, "reasoning_text")
        summary = _read_texts(item, "summary", place, "summary_text")
        if not texts and is_shown:
            texts = summary
        elif summary:
            self._losses.add("reasoning item", join(place, "summary"))
        if texts:
            if "tool_calls" in self._answer:
                self._close_answer()
            name = field if is_shown else REASONING_FIELDS[0]
            self._thoughts.setdefault(name, []).extend(texts)
            self._answer[name] = ""  # holds its place; joined when the answer is closed

    def _convert_call(self, item: Fields, place: str) -> None:
        arguments = read_text(item, "arguments", place)
        self._add_call(item, place, "function", arguments, "arguments")

    def _convert_custom_call(self, item: Fields, place: str) -> None:
        self._losses.add("custom_tool_call", place)
        arguments = wrap_input(read_text(item, "input", place))
        self._add_call(item, place, "custom", arguments, "input")

    def _add_call(self, item: Fields, place: str, kind: str, arguments: str, field: str) -> None:
        namespace = read_optional(item, "namespace", place, str) or ""
        name = self._names.add(ToolName(read_text(item, "name", place), namespace, kind))
        call_id = read_text(item, "call_id", place)
        if call_id in self._called:
            fail(join(place, "call_id"), f"The call id '{call_id}' is there twice.")
        self._called.add(call_id)
        report_options(item, place, self._losses)
        known = (*_IDENTITY, *OPTIONS, "name", "namespace", "call_id", field)
        self._losses.add_rest(item, known, place)
        function = {"name": name, "arguments": arguments}
        calls = self._answer.setdefault("tool_calls", [])
        calls.append({"id": call_id, "type": "function", "function": function})

    def _note_output(self, item: Fields, place: str) -> None:
        call_id = read_text(item, "call_id", place)
        if call_id in self._outputs:
            fail(join(place, "call_id"), f"The call '{call_id}' has two outputs.")
        self._outputs[call_id] = (item, place)

    def _check_output(self, item: Fields, place: str) -> None:
        """Take an output as the end of the model's message; it goes where its call is."""
        if item["call_id"] not in self._called:
            call_id = item["call_id"]
            fail(place, f"No tool call found for the output with call_id '{call_id}'.")
        self._close_answer()

    def _close_answer(self) -> None:
        """Add the open message of the model, and the outputs of its calls."""
        answer, self._answer = self._answer, {}
        if not answer:
            return
        answer |= {name: "\n\n".join(texts) for name, texts in self._thoughts.items()}
        self._thoughts = {}
        self._messages.append({"role": "assistant", "content": answer.pop("content", None)})
        self._messages[-1] |= answer
        attached: list[Message] = []
        for call in answer.get("tool_calls", ()):
            if call["id"] not in self._outputs:
                fail("input", f"No tool output found for the call '{call['id']}'.")
            attached += self._add_output(call["id"])
        if attached:
            self._messages.append({"role": "user", "content": attached})

    def _add_output(self, call_id: str) -> list[Message]:
        """Add the output of a call, and return the pictures and files that it cannot have."""
        item, place = self._outputs.pop(call_id)
        report_options(item, place, self._losses)
        known = (*_IDENTITY, *OPTIONS, "call_id", "output", "name", "namespace")
        self._losses.add_rest(item, known, place)
        inner = join(place, "output")
        content = convert_content(read(item, "output", place), "user", inner, self._losses)
        attached: list[Message] = []
        if not isinstance(content, str):
            attached = [part for part in content if part["type"] != "text"]
            texts = [part for part in content if part["type"] == "text"]
            content = texts[0]["text"] if len(texts) == 1 and attached else texts
        if attached:
            self._losses.add("content of an output", inner)
            note = f"[output of {call_id}]"
            content = content or note
            attached.insert(0, {"type": "text", "text": note})
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
        return attached

    def _convert_tools(self, item: Fields, place: str) -> None:
        read_choice(item, "role", place, ("developer",))
        self._losses.add_rest(item, (*_IDENTITY, "role", "tools"), place)
        self._tools.add_all(read(item, "tools", place), join(place, "tools"))

    def _convert_found_tools(self, item: Fields, place: str) -> None:
        self._losses.add("tool_search_output", place)
        self._losses.add_rest(item, (*_IDENTITY, "tools"), place)
        self._tools.add_all(read(item, "tools", place), join(place, "tools"))

    def _convert_update(self, item: Fields, place: str) -> None:
        self._losses.add("configuration_update", place)
        self._losses.add_rest(item, (*_IDENTITY, "reasoning", "text"), place)
        reasoning = read_settings(item, "reasoning", place)
        self._losses.add_rest(reasoning, ("effort",), join(place, "reasoning"))
        inner = join(place, "reasoning")
        self.effort = read_optional(reasoning, "effort", inner, str) or self.effort
        self.text = read_settings(item, "text", place) or self.text

    def _convert_hosted(self, item: Fields, kind: str, place: str) -> None:
        """Tell the model of a call that OpenAI ran, or of its output, as a text."""
        self._losses.add("hosted call", place)
        shown = {name: value for name, value in item.items() if name not in _IDENTITY}
        picture = _take_picture(shown, kind)
        text = f"[{kind}] {msgspec.json.encode(shown).decode()}"
        if kind in HOSTED_CALLS:
            self._add_text(text)
        if picture is None and kind in HOSTED_CALLS:
            return
        self._close_answer()
        parts: list[Message] = [{"type": "text", "text": text}]
        if picture is not None:
            parts.append({"type": "image_url", "image_url": {"url": picture}})
            if kind in HOSTED_CALLS:
                parts[0]["text"] = f"[picture of {kind}]"
        content = parts if picture is not None else text
        self._messages.append({"role": "user", "content": content})

    _CONVERTERS: ClassVar[Mapping[str, Callable[..., None]]] = {
        "message": _convert_message,
        "reasoning": _convert_reasoning,
        "function_call": _convert_call,
        "custom_tool_call": _convert_custom_call,
        "function_call_output": _check_output,
        "custom_tool_call_output": _check_output,
        "additional_tools": _convert_tools,
        "tool_search_output": _convert_found_tools,
        "configuration_update": _convert_update,
    }
    """The functions by what they convert. Bound to each converter they would keep it and its
    request, until the collector comes."""


def _take_picture(shown: dict[str, Any], kind: str) -> str | None:
    """Return the picture of an item as a URL, and take it out of what is shown as text."""
    if kind == "image_generation_call" and isinstance(shown.get("result"), str):
        media_type = f"image/{shown.get('output_format') or 'png'}"
        return f"data:{media_type};base64,{shown.pop('result')}"
    output = shown.get("output")
    if kind == "computer_call_output" and isinstance(output, dict) and "image_url" in output:
        rest = dict(cast("Fields", output))
        picture = rest.pop("image_url")
        shown["output"] = rest
        return picture if isinstance(picture, str) else None
    return None


def _read_texts(item: Fields, name: str, place: str, kind: str) -> list[str]:
    texts: list[str] = []
    for number, each in enumerate(read_elements(item, name, place)):
        inner = f"{place}.{name}.{number}"
        part = check_object(each, inner)
        read_choice(part, "type", inner, (kind,))
        texts.append(read_text(part, "text", inner))
    return [text for text in texts if text]
