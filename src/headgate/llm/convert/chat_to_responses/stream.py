"""Convert the events of a Responses stream to the chunks of a chat completion.

A stream has one chunk with the role, then text, refusals and calls of tools, then one chunk with a
finish reason, one with the usage if the caller asked for it, and `[DONE]`; or it ends with one
error.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import msgspec

from headgate.kit.errors import Kind
from headgate.llm import sse
from headgate.llm.answers import DONE
from headgate.llm.convert.chat_to_responses.reply import (
    CALLS,
    MESSAGE_SEPARATOR,
    NOTHING,
    convert_annotation,
    convert_call,
    convert_logprobs,
    convert_usage,
    find_created,
    find_finish_reason,
    is_left_out,
    keep_tokens,
    make_completion_id,
)
from headgate.llm.convert.chat_to_responses.request import ConvertedCompletion
from headgate.llm.convert.fields import Fields, list_objects, read_count, read_object, read_text
from headgate.llm.convert.stop_sequences import StopSequences
from headgate.llm.error_object import TYPES

Event = dict[str, Any]
END: Event = {}
"""Stands for `[DONE]`."""
LAST_EVENTS = ("response.completed", "response.incomplete")
FAILURES = ("response.failed", "response.cancelled", "error")
ARGUMENT_DELTAS = (
    "response.function_call_arguments.delta",
    "response.custom_tool_call_input.delta",
)
ARGUMENT_ENDS = ("response.function_call_arguments.done", "response.custom_tool_call_input.done")


def encode_chunk(chunk: Event) -> bytes:
    return sse.encode_event(msgspec.json.encode(chunk) if chunk else DONE)


def make_error(_status: int, message: str, code: str = "provider_invalid_response") -> Event:
    """Return the error that ends a stream."""
    error = {"message": message, "type": TYPES[Kind.UPSTREAM], "param": None, "code": code}
    return {"error": error}


def convert_stream_error(event: Fields) -> Event:
    """Return the error of a stream that failed at the provider: of a whole response, or alone."""
    error = read_object(read_object(event, "response"), "error") or read_object(event, "error")
    found = error or event
    message = str(found.get("message") or "The provider ended its answer with an error.")
    converted = make_error(502, message, str(found.get("code") or "server_error"))
    if error.get("type"):
        converted["error"]["type"] = error["type"]
    converted["error"]["param"] = found.get("param")
    return converted


class OpenOutputItem:
    """Hold what was sent of one item of the output. `number` is that of a call of a tool."""

    def __init__(self, item: Fields, number: int, stop: StopSequences) -> None:
        self.item = item
        self.kind = str(item.get("type") or "")
        self.number = number
        self.stop = stop
        self.sent = 0
        """Characters of a call's argument."""
        self.parts: dict[int, int] = {}
        """Characters of each part of a message that came."""
        self.starts: dict[int, int] = {}
        """Where the text of each part begins in the whole text."""
        self.cited: dict[int, int] = {}
        """How many citations of each part came."""


class CompletionStream:
    """Convert one stream, event by event.

    `prompt_tokens` and `count_tokens` estimate the usage of an answer that a stop sequence cuts and
    that is not read to its end. `ended` tells that nothing follows, `stopped` that the rest of the
    provider's stream is not wanted: `close` then ends the completion.
    """

    def __init__(
        self,
        request: ConvertedCompletion,
        count_tokens: Callable[[int], int],
        prompt_tokens: int = 0,
    ) -> None:
        self.ended = False
        self.stopped = False
        self._request = request
        self._count_tokens = count_tokens
        self._prompt_tokens = prompt_tokens
        self._head: Event = {}
        self._items: dict[int, OpenOutputItem] = {}
        self._calls = 0
        self._length = 0
        """Characters of the text so far."""
        self._last_message = -1
        """The item whose text came last."""

    def feed(self, event: Fields, size: int = 0) -> Iterator[Event]:
        """Yield the chunks that follow from the provider's next event."""
        kind = str(event.get("type") or "")
        if self.ended:
            return
        if self.stopped:
            if kind in LAST_EVENTS:
                yield from self.close(read_object(event, "response"))
        elif kind in FAILURES:
            yield from self.fail(convert_stream_error(event))
        elif kind in LAST_EVENTS:
            yield from self._finish(read_object(event, "response"))
        else:
            if not self._head:
                yield self._start(read_object(event, "response"))
            if "output_index" in event:
                yield from self._feed_item(event, kind)

    def fail(self, error: Event) -> Iterator[Event]:
        """Yield the error that ends the stream, once."""
        if not self.ended:
            self.ended = True
            yield error

    def close(self, response: Fields = NOTHING) -> Iterator[Event]:
        """Yield the end of a completion that a stop sequence cut, once: with the usage that the
        provider reports in its whole response, or an estimate."""
        if not self.stopped or self.ended:
            return
        usage = convert_usage(response)
        if usage is None:
            count = max(1, self._count_tokens(self._length))
            estimated = {"input_tokens": self._prompt_tokens, "output_tokens": count}
            usage = convert_usage({"usage": estimated})
        reason = find_finish_reason(NOTHING, self._request, has_calls=self._calls > 0)
        yield from self._end(reason, usage, response)

    def _start(self, response: Fields) -> Event:
        self._head = {
            "id": make_completion_id(response.get("id")),
            "object": "chat.completion.chunk",
            "created": find_created(response),
            "model": str(response.get("model") or self._request.model),
            "system_fingerprint": None,
        }
        if self._request.includes_usage:
            self._head["usage"] = None
        return self._make_chunk({"role": "assistant", "content": "", "refusal": None})

    def _make_chunk(
        self, delta: Event, finish_reason: str | None = None, logprobs: list[Any] | None = None
    ) -> Event:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
            "finish_reason": finish_reason,
        }
        return {**self._head, "choices": [choice]}

    def _feed_item(self, event: Fields, kind: str) -> Iterator[Event]:
        number = read_count(event, "output_index")
        item = self._items.get(number)
        if item is None:
            item = yield from self._open(number, read_object(event, "item"))
        if kind == "response.output_text.delta":
            yield from self._add_text(number, item, event, read_text(event, "delta"))
        elif kind == "response.refusal.delta":
            yield from self._add_refusal(item, event, read_text(event, "delta"))
        elif kind in ARGUMENT_DELTAS:
            yield from self._add_argument(item, read_text(event, "delta"))
        elif kind in ARGUMENT_ENDS:
            yield from self._complete_argument(item, event)
        elif kind == "response.output_text.annotation.added":
            yield from self._cite(item, event)
        elif kind == "response.output_item.done":
            yield from self._complete(number, item, read_object(event, "item"))

    def _open(self, number: int, item: Fields) -> Generator[Event, None, OpenOutputItem]:
        opened = OpenOutputItem(item, self._calls, StopSequences(self._request.stop))
        self._items[number] = opened
        if opened.kind in CALLS:
            self._calls += 1
            call = convert_call({**item, "arguments": None, "input": None})
            yield from self._send_call(opened, call)
        return opened

    def _send_call(self, item: OpenOutputItem, call: Event) -> Iterator[Event]:
        if not self._request.names_functions:
            yield self._make_chunk({"tool_calls": [{"index": item.number, **call}]})
        elif item.number == 0:
            yield self._make_chunk({"function_call": call.get("function")})

    def _add_argument(self, item: OpenOutputItem, text: str) -> Iterator[Event]:
        if item.kind not in CALLS or not text:
            return
        item.sent += len(text)
        kind, argument = CALLS[item.kind]
        yield from self._send_call(item, {kind: {argument: text}})

    def _complete_argument(self, item: OpenOutputItem, fields: Fields) -> Iterator[Event]:
        """Send the rest of an argument: a provider may tell it at the end only."""
        if item.kind in CALLS:
            whole = read_text(fields, CALLS[item.kind][1])
            yield from self._add_argument(item, whole[item.sent :])

    def _add_text(
        self, number: int, item: OpenOutputItem, event: Fields, text: str
    ) -> Iterator[Event]:
        if not text or self.stopped or is_left_out(item.item, self._request):
            return
        part = read_count(event, "content_index")
        if self._length and self._last_message != number:
            self._length += len(MESSAGE_SEPARATOR)
            yield self._make_chunk({"content": MESSAGE_SEPARATOR})
        self._last_message = number
        item.starts.setdefault(part, self._length)
        item.parts[part] = item.parts.get(part, 0) + len(text)
        self._length += len(text)
        cut = item.stop.feed(text)
        logprobs = convert_logprobs(event.get("logprobs"))
        if cut.sequence is not None:
            logprobs = keep_tokens(logprobs, len(cut.text))
        if cut.text or logprobs:
            chunk = self._make_chunk({"content": cut.text}, logprobs=logprobs)
            if event.get("obfuscation") is not None:
                chunk["obfuscation"] = event["obfuscation"]
            yield chunk
        self.stopped = cut.sequence is not None

    def _add_refusal(self, item: OpenOutputItem, event: Fields, text: str) -> Iterator[Event]:
        if not text or is_left_out(item.item, self._request):
            return
        part = read_count(event, "content_index")
        item.parts[part] = item.parts.get(part, 0) + len(text)
        yield self._make_chunk({"refusal": text})

    def _cite(self, item: OpenOutputItem, event: Fields) -> Iterator[Event]:
        part = read_count(event, "content_index")
        start = item.starts.get(part)
        if start is None:  # its text comes with the whole item, which has the citation, too
            return
        item.cited[part] = item.cited.get(part, 0) + 1
        annotation = convert_annotation(read_object(event, "annotation"), start)
        if annotation is not None and not is_left_out(item.item, self._request):
            yield self._make_chunk({"annotations": [annotation]})

    def _complete(self, number: int, item: OpenOutputItem, whole: Fields) -> Iterator[Event]:
        """Send what a whole item has and its events did not, and what was held back of it."""
        if item.kind in CALLS:
            yield from self._complete_argument(item, whole)
            return
        for index, part in enumerate(list_objects(whole.get("content"))):
            place = {"content_index": index, "logprobs": part.get("logprobs")}
            sent = item.parts.get(index, 0)
            yield from self._add_text(number, item, place, read_text(part, "text")[sent:])
            yield from self._add_refusal(item, place, read_text(part, "refusal")[sent:])
            for each in list_objects(part.get("annotations"))[item.cited.get(index, 0) :]:
                yield from self._cite(item, {**place, "annotation": each})
        if self.stopped:
            return
        rest = item.stop.finish()
        if rest.text:
            yield self._make_chunk({"content": rest.text})
        self.stopped = rest.sequence is not None

    def _finish(self, response: Fields) -> Iterator[Event]:
        if not self._head:
            yield self._start(response)
        # A provider may leave out the last events of an item, or all of them.
        for number, whole in enumerate(list_objects(response.get("output"))):
            item = self._items.get(number)
            if item is None:
                item = yield from self._open(number, whole)
            yield from self._complete(number, item, whole)
            if self.stopped:
                yield from self.close(response)
                return
        reason = find_finish_reason(response, self._request, has_calls=self._calls > 0)
        yield from self._end(reason, convert_usage(response), response)

    def _end(self, finish_reason: str, usage: Event | None, response: Fields) -> Iterator[Event]:
        """Yield the end of the completion."""
        self.ended = True
        if response.get("service_tier") is not None:
            self._head["service_tier"] = response["service_tier"]
        if response.get("moderation"):
            self._head["moderation"] = response["moderation"]
        yield self._make_chunk({}, finish_reason)
        if self._request.includes_usage and usage is not None:
            yield {**self._head, "choices": [], "usage": usage}
        yield END
