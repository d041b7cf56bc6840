"""Convert a whole answer of Responses to a chat completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.llm.convert.chat_to_responses.request import ConvertedCompletion
from headgate.llm.convert.fields import (
    Fields,
    list_objects,
    read_count,
    read_object,
    read_response,
)
from headgate.llm.convert.stop_sequences import Cut, StopSequences

NOTHING: Fields = {}
MESSAGE_SEPARATOR = "\n\n"
"""Between the texts of two messages of one response."""
CALLS = {"function_call": ("function", "arguments"), "custom_tool_call": ("custom", "input")}
"""The items that are calls of the client's tools, with their type and argument in a completion."""


def convert_reply(response: Any, request: ConvertedCompletion) -> dict[str, Any]:
    """Return the chat completion for a complete or incomplete response.

    Raise `UnreadableResponseError` for anything else.
    """
    fields = read_response(response)
    answer = CompletionMessage(request)
    for item in list_objects(fields["output"]):
        answer.add(item)
    end = NOTHING if answer.was_cut else fields
    finish_reason = find_finish_reason(end, request, has_calls=bool(answer.calls))
    choice = {
        "index": 0,
        "message": answer.build(),
        "logprobs": {"content": answer.logprobs, "refusal": None} if answer.logprobs else None,
        "finish_reason": finish_reason,
    }
    completion: dict[str, Any] = {
        "id": make_completion_id(fields.get("id")),
        "object": "chat.completion",
        "created": find_created(fields),
        "model": str(fields.get("model") or request.model),
        "choices": [choice],
        "usage": convert_usage(fields),
        "service_tier": fields.get("service_tier"),
        "system_fingerprint": None,
    }
    for name in ("metadata", "moderation"):
        if fields.get(name):
            completion[name] = fields[name]
    return completion


class CompletionMessage:
    """Collect the message of a chat completion from the items of a response, up to a stop
    sequence."""

    def __init__(self, request: ConvertedCompletion) -> None:
        self.calls: list[dict[str, Any]] = []
        self.logprobs: list[dict[str, Any]] = []
        self.was_cut = False
        self._request = request
        self._texts: list[str] = []
        self._length = 0
        """Characters of all texts."""
        self._refusals: list[str] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, item: Fields) -> None:
        kind = str(item.get("type") or "")
        if self.was_cut:
            return
        if kind == "message" and not is_left_out(item, self._request):
            self._add_message(item)
        elif kind in CALLS:
            self.calls.append(convert_call(item))

    def _add_message(self, item: Fields) -> None:
        texts: list[str] = []
        before = MESSAGE_SEPARATOR if self._length else ""
        end = self._length + len(before)
        annotations: list[dict[str, Any]] = []
        logprobs: list[dict[str, Any]] = []
        for part in list_objects(item.get("content")):
            if isinstance(part.get("text"), str):
                for each in list_objects(part.get("annotations")):
                    annotation = convert_annotation(each, end)
                    annotations += [annotation] if annotation else []
                texts.append(part["text"])
                end += len(part["text"])
                logprobs += convert_logprobs(part.get("logprobs"))
            elif isinstance(part.get("refusal"), str):
                self._refusals.append(part["refusal"])
        kept = self._cut("".join(texts))
        if kept:
            self._texts += [before, kept]
            self._length += len(before) + len(kept)
        self._annotations += [
            each
            for each in annotations
            if each["url_citation"]["end_index"] <= self._length or not self.was_cut
        ]
        self.logprobs += keep_tokens(logprobs, len(kept)) if self.was_cut else logprobs

    def _cut(self, text: str) -> str:
        """Return a text up to the first stop sequence. Nothing comes after that."""
        if not self._request.stop:
            return text
        finder = StopSequences(self._request.stop)
        cut = finder.feed(text)
        rest = finder.finish() if cut.sequence is None else Cut("", cut.sequence)
        self.was_cut = rest.sequence is not None
        return cut.text + rest.text

    def build(self) -> dict[str, Any]:
        """Return the message, with the fields that OpenAI sends."""
        refusal = "".join(self._refusals) or None
        # An answer without any text is empty, and one with something else in its place is null.
        content = "".join(self._texts) or (None if self.calls or refusal else "")
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content,
            "refusal": refusal,
            "annotations": self._annotations,
        }
        if self.calls and self._request.names_functions:
            message["function_call"] = self.calls[0].get("function")
        elif self.calls:
            message["tool_calls"] = self.calls
        return message


def is_left_out(item: Fields, request: ConvertedCompletion) -> bool:
    """Return whether a message is a comment beside an answer that is JSON."""
    return request.is_json and item.get("phase") == "commentary"


def convert_call(item: Fields) -> dict[str, Any]:
    kind, argument = CALLS[str(item["type"])]
    return {
        "id": str(item.get("call_id") or item.get("id") or ""),
        "type": kind,
        kind: {"name": str(item.get("name") or ""), argument: str(item.get(argument) or "")},
    }


def convert_annotation(annotation: Fields, offset: int = 0) -> dict[str, Any] | None:
    """Return the citation of a page of the web, moved by the text before it; None for others."""
    if annotation.get("type") != "url_citation":
        return None
    return {
        "type": "url_citation",
        "url_citation": {
            "start_index": read_count(annotation, "start_index") + offset,
            "end_index": read_count(annotation, "end_index") + offset,
            "title": str(annotation.get("title") or ""),
            "url": str(annotation.get("url") or ""),
        },
    }


def convert_logprobs(logprobs: Any) -> list[dict[str, Any]]:
    """Return the tokens of a text with their probabilities, as a chat completion has them."""
    return [
        {
            "token": str(each.get("token") or ""),
            "logprob": each.get("logprob"),
            "bytes": each.get("bytes"),
            "top_logprobs": [
                {
                    "token": str(other.get("token") or ""),
                    "logprob": other.get("logprob"),
                    "bytes": other.get("bytes"),
                }
                for other in list_objects(each.get("top_logprobs"))
            ],
        }
        for each in list_objects(logprobs)
    ]


def keep_tokens(logprobs: Sequence[dict[str, Any]], characters: int) -> list[dict[str, Any]]:
    """Return the tokens that make so many characters of a text."""
    kept: list[dict[str, Any]] = []
    for each in logprobs:
        characters -= len(each["token"])
        if characters < 0:
            break
        kept.append(each)
    return kept


def make_completion_id(response_id: Any) -> str:
    """Return an id as OpenAI's clients expect it, from that of a response."""
    text = response_id if isinstance(response_id, str) else ""
    if text.startswith("chatcmpl-"):
        return text
    return f"chatcmpl-{text.removeprefix('resp_') or 'unknown'}"


def find_created(response: Fields) -> int:
    """Return when the answer was created, in unix seconds; 0 if the provider does not say."""
    created = response.get("created_at")
    return int(created) if isinstance(created, int | float) else 0


def find_finish_reason(response: Fields, request: ConvertedCompletion, *, has_calls: bool) -> str:
    """Return why an answer ended; `response` is empty for one that a stop sequence cut."""
    if response.get("status") == "incomplete":
        reason = read_object(response, "incomplete_details").get("reason")
        return "content_filter" if reason == "content_filter" else "length"
    if not has_calls:
        return "stop"
    return "function_call" if request.names_functions else "tool_calls"


def convert_usage(response: Fields) -> dict[str, Any] | None:
    """Return the usage of a response; None if it reports none."""
    fields = read_object(response, "usage")
    if not fields:
        return None
    inputs = read_object(fields, "input_tokens_details")
    outputs = read_object(fields, "output_tokens_details")
    input_tokens = read_count(fields, "input_tokens")
    output_tokens = read_count(fields, "output_tokens")
    details: dict[str, Any] = {
        "cached_tokens": read_count(inputs, "cached_tokens"),
        "audio_tokens": 0,
    }
    if "cache_write_tokens" in inputs:
        details["cache_write_tokens"] = read_count(inputs, "cache_write_tokens")
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": read_count(fields, "total_tokens") or input_tokens + output_tokens,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": read_count(outputs, "reasoning_tokens"),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
