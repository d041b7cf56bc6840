"""Show a request to routing rules as one of Responses, whatever API its client speaks.

Everything is derived when a rule asks for it, and once: a rule about the number of tools decodes
the tools and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from headgate.llm.estimate import estimate_input_tokens
from headgate.resources.model.paths import MISSING, Step, is_list, is_object, walk

CHAT, RESPONSES, ANTHROPIC = "chat-completions", "responses", "anthropic"
ROOTS = frozenset({"request", "tokens", "metadata", "resource"})
SMALL_FIELDS = frozenset({"model", "messagesCount", "toolsCount", "format", "metadata"})
"""Fields of a request whose size does not grow with it."""
TEXT_PARTS = frozenset({"input_text", "output_text", "text", None})
SYSTEM_ROLES = frozenset({"system", "developer"})

Message = dict[str, Any]
Derive = Callable[["RequestView"], Any]

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_strings = msgspec.json.Decoder(dict[str, str]).decode


class RequestView:
    """Hold one request for the rules of a resource.

    `body` is what the client sent, or what its Messages request was converted to, and `native`
    always what the client sent. `metadata` are the caller's own pairs beside those of the body, as
    a JSON object of strings or empty.
    """

    def __init__(
        self,
        body: bytes,
        *,
        surface: str = RESPONSES,
        model: str | None = None,
        metadata: str = "",
        native: bytes | None = None,
        resource: Mapping[str, Any] | None = None,
        count_tokens: Callable[[bytes, str | None], int] = estimate_input_tokens,
    ) -> None:
        self.body = body
        self.surface = surface
        self.model = model
        self._metadata = metadata
        self._native = native
        self._resource = resource or {}
        self._count_tokens = count_tokens
        self._raw: dict[str, msgspec.Raw] | None = None
        self._known: dict[str, Any] = {}
        self._derived = _FROM_CHAT if surface == CHAT else _FROM_RESPONSES

    def read(self, path: Sequence[Step]) -> Any:
        """Return the variable of a path, `MISSING` where there is none."""
        root = path[0]
        if root == "request":
            if len(path) == 1:
                return self.gather(None)
            return walk(self.field(str(path[1])), path[2:])
        return walk(self.root(str(root)), path[1:])

    def root(self, name: str) -> Any:
        """Return a variable beside the request."""
        if name == "tokens":
            return {"input": self.input_tokens}
        if name == "metadata":
            return self.metadata
        return self._resource if name == "resource" else MISSING

    def field(self, name: str) -> Any:
        """Return a field of the request, or a variable that is derived from it."""
        known = self._known
        if name not in known:
            derive = self._derived.get(name)
            known[name] = self.sent(name) if derive is None else derive(self)
        return known[name]

    def sent(self, name: str) -> Any:
        """Return a field as it stands in the body; one that is null counts as absent."""
        raw = self.fields.get(name)
        value = None if raw is None else msgspec.json.decode(raw)
        return MISSING if value is None else value

    def gather(self, names: frozenset[str] | None) -> dict[str, Any]:
        """Return the request as an object, with these fields; None for all."""
        wanted = {*self.fields, *self._derived} if names is None else names
        values = ((name, self.field(name)) for name in wanted)
        return {name: value for name, value in values if value is not MISSING}

    def measure(self, names: frozenset[str] | None) -> int:
        """Return about how many bytes these fields have; those that are derived from the whole
        count as the whole."""
        if names is None or not names <= (SMALL_FIELDS | self.fields.keys()):
            return len(self.body)
        sizes = (len(bytes(self.fields[name])) for name in names if name not in SMALL_FIELDS)
        return sum(sizes)

    def count_values(self, names: frozenset[str] | None) -> int:
        """Return at most how many values these fields have, as `measure`: each follows a comma or
        opens a list or an object. Commas of texts count as well."""
        if names is None or not names <= (SMALL_FIELDS | self.fields.keys()):
            pieces = [self.body]
        else:
            pieces = [bytes(self.fields[name]) for name in names if name not in SMALL_FIELDS]
        return sum(piece.count(sign) for piece in pieces for sign in (b",", b"[", b"{"))

    @property
    def fields(self) -> dict[str, msgspec.Raw]:
        if self._raw is None:
            self._raw = _decode_fields(self.body)
        return self._raw

    @property
    def input_tokens(self) -> int:
        if "tokens" not in self._known:
            self._known["tokens"] = self._count_tokens(self.body, self.model)
        return self._known["tokens"]

    @property
    def metadata(self) -> dict[str, Any]:
        """Return the metadata of the body together with the caller's own, which win."""
        known = self._known
        if "metadata" not in known:
            sent = self.sent("metadata")
            pairs: dict[str, Any] = dict(sent) if is_object(sent) else {}
            if self._metadata:
                pairs |= _decode_strings(self._metadata)
            known["metadata"] = pairs
        return known["metadata"]

    @property
    def native_body(self) -> Any:
        return msgspec.json.decode(self.body if self._native is None else self._native)


def flatten(content: Any) -> str:
    """Return the text of a message's content, its parts on lines of their own."""
    if isinstance(content, str):
        return content
    texts = [
        part.get("text")
        for part in _list_objects(content)
        if part.get("type") in TEXT_PARTS and isinstance(part.get("text"), str)
    ]
    return "\n".join(text for text in texts if text)


def _list_objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list; whatever else it holds is the provider's to refuse."""
    return [each for each in value if is_object(each)] if is_list(value) else []


def _show_message(role: Any, content: Any) -> Message:
    shown = "system" if role == "developer" else role
    return {"role": shown, "content": flatten(content)}


def _messages_of_responses(view: RequestView) -> list[Message]:
    messages: list[Message] = []
    instructions, given = view.sent("instructions"), view.sent("input")
    if isinstance(instructions, str) and instructions:
        messages.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    messages += [
        _show_message(item.get("role"), item.get("content"))
        for item in _list_objects(given)
        if item.get("type", "message") == "message"
    ]
    return messages


def _messages_of_chat(view: RequestView) -> list[Message]:
    return [
        _show_message(message.get("role"), message.get("content"))
        for message in _list_objects(view.sent("messages"))
        if message.get("role") not in ("tool", "function") and message.get("content") is not None
    ]


def _instructions_of_chat(view: RequestView) -> Any:
    """Return the text of the system messages before all others."""
    texts: list[str] = []
    for message in _list_objects(view.sent("messages")):
        if message.get("role") not in SYSTEM_ROLES:
            break
        texts.append(flatten(message.get("content")))
    return "\n".join(texts) if texts else MISSING


def _input_of_chat(view: RequestView) -> Any:
    """Return the messages after the instructions as input items."""
    sent = view.sent("messages")
    if not is_list(sent):
        return sent
    messages = _list_objects(sent)
    first = 0
    while first < len(messages) and messages[first].get("role") in SYSTEM_ROLES:
        first += 1
    return [item for message in messages[first:] for item in _make_items(message)]


def _make_items(message: dict[str, Any]) -> list[Message]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        called = message.get("tool_call_id")
        return [{"type": "function_call_output", "call_id": called, "output": content}]
    items: list[Message] = []
    if content is not None:
        items.append({"type": "message", "role": role, "content": _make_parts(role, content)})
    for call in _list_objects(message.get("tool_calls")):
        function = call.get("function")
        named = function if is_object(function) else {}
        items.append({"type": "function_call", "call_id": call.get("id"), **named})
    return items


def _make_parts(role: Any, content: Any) -> Any:
    if not is_list(content):
        return content
    text_type = "output_text" if role == "assistant" else "input_text"
    parts: list[Message] = []
    for part in _list_objects(content):
        kind = part.get("type")
        if kind == "text":
            parts.append({**part, "type": text_type})
        elif kind == "image_url":
            image = part.get("image_url")
            shown = image if is_object(image) else {"url": image}
            parts.append(
                {
                    "type": "input_image",
                    "image_url": shown.get("url"),
                    "detail": shown.get("detail", "auto"),
                }
            )
        elif kind == "file" and is_object(part.get("file")):
            parts.append({"type": "input_file", **part["file"]})
        else:
            parts.append(part)
    return parts


def _tools_of_chat(view: RequestView) -> Any:
    """Return the tools as Responses spells them: a function's fields beside its type."""
    tools = view.sent("tools")
    return [_flatten_tool(tool) for tool in _list_objects(tools)] if is_list(tools) else tools


def _flatten_tool(tool: dict[str, Any]) -> dict[str, Any]:
    kind = tool.get("type")
    inner = tool.get(kind) if isinstance(kind, str) else None
    return {"type": kind, **inner} if is_object(inner) else tool


def _reasoning_of_chat(view: RequestView) -> Any:
    effort = view.sent("reasoning_effort")
    return MISSING if effort is MISSING else {"effort": effort}


def _text_of_chat(view: RequestView) -> Any:
    wanted = view.sent("response_format")
    if not is_object(wanted):
        return MISSING
    inner = wanted.get("json_schema")
    return {"format": {"type": wanted.get("type"), **inner} if is_object(inner) else wanted}


def _limit_of_chat(view: RequestView) -> Any:
    limit = view.sent("max_completion_tokens")
    return view.sent("max_tokens") if limit is MISSING else limit


def _count_tools(view: RequestView) -> int:
    tools = view.field("tools")
    return len(tools) if is_list(tools) else 0


def _count_messages(view: RequestView) -> int:
    return len(view.field("messages"))


def _first_message(view: RequestView) -> Any:
    messages = view.field("messages")
    return messages[0] if messages else MISSING


def _last_message(view: RequestView) -> Any:
    messages = view.field("messages")
    return messages[-1] if messages else MISSING


def _join_messages(view: RequestView) -> str:
    return " ".join(each["content"] for each in view.field("messages") if each["content"])


_FROM_RESPONSES: Mapping[str, Derive] = {
    "model": lambda view: MISSING if view.model is None else view.model,
    "messages": _messages_of_responses,
    "messagesCount": _count_messages,
    "toolsCount": _count_tools,
    "firstMessage": _first_message,
    "lastMessage": _last_message,
    "allMessagesContent": _join_messages,
    "format": lambda view: view.surface,
    "nativeBody": lambda view: view.native_body,
    "metadata": lambda view: view.metadata,
}
_FROM_CHAT: Mapping[str, Derive] = {
    **_FROM_RESPONSES,
    "messages": _messages_of_chat,
    "instructions": _instructions_of_chat,
    "input": _input_of_chat,
    "tools": _tools_of_chat,
    "reasoning": _reasoning_of_chat,
    "text": _text_of_chat,
    "max_output_tokens": _limit_of_chat,
}
