"""Convert a whole chat completion to a response of Responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from headgate.llm.convert.fields import (
    Fields,
    UnreadableResponseError,
    as_object,
    list_objects,
    read_count,
    read_object,
    read_text,
)
from headgate.llm.convert.responses_to_chat.items import REASONING_FIELDS, REASONING_PREFIX
from headgate.llm.convert.responses_to_chat.request import ChatRequest
from headgate.llm.convert.responses_to_chat.tools import unwrap_input

Item = dict[str, Any]
ID_PREFIXES = ("chatcmpl-", "chatcmpl_", "resp_", "gen-")
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is incomplete, by the reason with which a chat server finishes."""
_DEFAULTS: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
_TEXT: Fields = {"format": {"type": "text"}}


class AnswerHead(msgspec.Struct, frozen=True):
    """Hold what all parts of one answer share. `suffix` ends the ids of response and items."""

    suffix: str
    created: int
    model: str
    service_tier: str | None

    def make_id(self, prefix: str, number: int = 0) -> str:
        """Return an id for an item; those after the first of a kind have its number."""
        return f"{prefix}_{self.suffix}_{number}" if number else f"{prefix}_{self.suffix}"


def read_head(answer: Fields, request: ChatRequest) -> AnswerHead:
    identity = answer.get("id")
    suffix = identity if isinstance(identity, str) else ""
    for prefix in ID_PREFIXES:
        suffix = suffix.removeprefix(prefix)
    created, tier = answer.get("created"), answer.get("service_tier")
    return AnswerHead(
        suffix or request.answer_id,
        int(created) if isinstance(created, int | float) else 0,
        str(answer.get("model") or request.model),
        tier if isinstance(tier, str) else None,
    )


def convert_reply(completion: Any, request: ChatRequest) -> dict[str, Any]:
    """Return the response for a chat completion. Raise `UnreadableResponseError`."""
    fields = as_object(completion)
    choices = list_objects(fields.get("choices"))
    if not choices:
        message = read_object(fields, "error").get("message")
        raise UnreadableResponseError(
            str(message or "The provider's answer is no chat completion: it has no choices.")
        )
    head = read_head(fields, request)
    reason = str(choices[0].get("finish_reason") or "stop")
    output = convert_message(choices[0], head, request, find_item_status(reason))
    response = build_response(head, request, output, find_status(reason), fields.get("usage"))
    if moderation := convert_moderation(fields):
        response["moderation"] = moderation
    return response


def convert_moderation(answer: Fields) -> dict[str, Any]:
    """Return the judgements of input and output: Responses has one result for each."""
    sides = read_object(answer, "moderation")
    return {
        name: (list_objects(read_object(sides, name).get("results")) or [sides[name]])[0]
        for name in sides
    }


def find_status(reason: str) -> tuple[str, str | None]:
    """Return the status of a response, and why it is incomplete."""
    why = INCOMPLETE.get(reason)
    return ("completed", None) if why is None else ("incomplete", why)


def find_item_status(reason: str) -> str:
    return "incomplete" if reason in INCOMPLETE else "completed"


def build_response(
    head: AnswerHead,
    request: ChatRequest,
    output: Sequence[Item],
    status: tuple[str, str | None],
    usage: Any = None,
) -> dict[str, Any]:
    """Return a response in a state (`status` with the reason of an incomplete one)."""
    state, why = status
    echo = request.echo
    return {
        "id": head.make_id("resp"),
        "object": "response",
        "created_at": head.created,
        "status": state,
        "background": False,
        "error": None,
        "incomplete_details": None if why is None else {"reason": why},
        "model": head.model,
        "output": list(output),
        "previous_response_id": None,
        "store": False,
        **_DEFAULTS,
        **echo,
        "service_tier": head.service_tier or echo.get("service_tier") or "default",
        "text": {**_TEXT, **read_object(echo, "text")},
        "usage": convert_usage(usage),
    }


def convert_message(
    choice: Fields, head: AnswerHead, request: ChatRequest, status: str
) -> list[Item]:
    """Return the items of one choice: reasoning, message, calls."""
    message = read_object(choice, "message")
    items: list[Item] = []
    text, reasoning = read_content(message.get("content"))
    field, shown = read_reasoning(message)
    if reasoning := shown or reasoning:
        items.append(make_reasoning(head.make_id("rs"), reasoning, field, request))
    parts = _convert_parts(message, text, choice, request)
    if parts:
        items.append(make_message(head.make_id("msg"), parts, status))
    calls = list_objects(message.get("tool_calls"))
    if legacy := read_object(message, "function_call"):
        calls.append({"function": legacy})
    for number, call in enumerate(calls):
        items.append(convert_call(call, number, head, request))
    return items


def _convert_parts(
    message: Fields, text: str, choice: Fields, request: ChatRequest
) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if text:
        part = make_text(text)
        part["annotations"] = [
            convert_annotation(each) for each in list_objects(message.get("annotations"))
        ]
        if request.shows_logprobs:
            part["logprobs"] = read_logprobs(choice)
        parts.append(part)
    if refusal := read_text(message, "refusal"):
        parts.append({"type": "refusal", "refusal": refusal})
    return parts


def make_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def make_message(item_id: str, parts: Sequence[Fields], status: str) -> Item:
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": list(parts),
    }


def make_reasoning(item_id: str, text: str, field: str, request: ChatRequest) -> Item:
    """Return reasoning as an item.

    Its encrypted content, if the caller wants one, tells the way back into the field that it came
    from, so that the model sees its reasoning again.
    """
    item: Item = {
        "id": item_id,
        "type": "reasoning",
        "status": "completed",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": text}] if text else [],
    }
    if request.keeps_reasoning:
        item["encrypted_content"] = REASONING_PREFIX + field
    return item


def convert_call(call: Fields, number: int, head: AnswerHead, request: ChatRequest) -> Item:
    """Return the call of a function, or of the custom tool that it stands for."""
    custom = read_object(call, "custom")
    function = custom or read_object(call, "function")
    name = str(function.get("name") or "")
    arguments = function.get("input") if custom else read_arguments(function.get("arguments"))
    call_id = str(call.get("id") or head.make_id("call", number))
    is_custom = bool(custom) or name in request.custom_tools
    item = make_call(head, number, call_id, name, request, is_custom=is_custom)
    if not is_custom:
        item["arguments"] = arguments
    else:
        item["input"] = str(arguments or "") if custom else unwrap_input(str(arguments))
    return item


def make_call(
    head: AnswerHead, number: int, call_id: str, name: str, request: ChatRequest, *, is_custom: bool
) -> Item:
    """Return a call without its arguments."""
    original = request.names.find(name)
    item: Item = {
        "id": head.make_id("ctc" if is_custom else "fc", number),
        "type": "custom_tool_call" if is_custom else "function_call",
        "status": "completed",
        "call_id": call_id,
        "name": original.name,
    }
    if original.namespace:
        item["namespace"] = original.namespace
    return item


def read_arguments(arguments: Any) -> str:
    """Return arguments as text; some servers send the object itself."""
    if isinstance(arguments, str):
        return arguments
    return "{}" if arguments is None else msgspec.json.encode(arguments).decode()


def read_content(content: Any) -> tuple[str, str]:
    """Return the text and the thinking of a content; some servers send a list of parts."""
    if isinstance(content, str):
        return content, ""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in list_objects(content):
        if part.get("type") == "thinking":
            inner = part.get("thinking")
            thoughts.append(inner if isinstance(inner, str) else read_content(inner)[0])
        else:
            texts.append(read_text(part, "text"))
    return "".join(texts), "".join(thoughts)


def read_reasoning(message: Fields) -> tuple[str, str]:
    """Return the reasoning that a server shows, with the field that it stands in."""
    for field in REASONING_FIELDS:
        if text := read_text(message, field):
            return field, text
    return REASONING_FIELDS[0], ""


def convert_annotation(annotation: Fields) -> dict[str, Any]:
    """Return a citation: Chat Completions nests what Responses has at the top."""
    kind = str(annotation.get("type") or "")
    nested = read_object(annotation, kind)
    return {"type": kind, **nested} if nested else dict(annotation)


def read_logprobs(choice: Fields) -> list[Any]:
    return cast("list[Any]", list_objects(read_object(choice, "logprobs").get("content")))


def convert_usage(usage: Any) -> dict[str, Any] | None:
    """Return usage by the names of Responses; None if there is none."""
    fields = as_object(usage)
    if not fields:
        return None
    read, written = read_count(fields, "prompt_tokens"), read_count(fields, "completion_tokens")
    into = read_object(fields, "prompt_tokens_details")
    out = read_object(fields, "completion_tokens_details")
    return {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": read_count(into, "cached_tokens"),
            "cache_write_tokens": read_count(into, "cache_write_tokens"),
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": read_count(out, "reasoning_tokens")},
        "total_tokens": read_count(fields, "total_tokens") or read + written,
    }
