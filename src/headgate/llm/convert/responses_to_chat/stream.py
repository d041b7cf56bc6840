"""Convert the chunks of a chat stream to the events of a Responses stream.

A stream has `response.created` and `response.in_progress`, the events of each item between its
`added` and its `done`, and one last event with the whole response; or it ends with one `error`.
Events are numbered from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from headgate.llm import sse
from headgate.llm.convert.fields import Fields, as_object, list_objects, read_object, read_text
from headgate.llm.convert.responses_to_chat.reply import (
    build_response,
    convert_annotation,
    convert_moderation,
    find_item_status,
    find_status,
    read_content,
    read_head,
    read_reasoning,
)
from headgate.llm.convert.responses_to_chat.request import ChatRequest
from headgate.llm.convert.responses_to_chat.told_items import (
    Event,
    OpenCall,
    OpenMessage,
    OpenReasoning,
    OutputCounter,
    ToldItem,
    read_function,
    read_index,
)

BYTES_MAX = 128 << 20
"""The most bytes of a stream: its last event repeats the answer, which is kept until then."""
CALLS_MAX = 1_024
UNFINISHED = "The provider's stream ended before its answer was complete."
TOO_LONG = "The provider's answer is too long to be converted."


def encode_event(event: Event) -> bytes:
    """Return an event as a frame of the stream; its name is its type."""
    return sse.encode_event(msgspec.json.encode(event), event["type"].encode())


def make_error(status: int, message: str, code: str = "upstream_error", param: Any = None) -> Event:
    """Return the event of an error: at the top level as OpenAI documents it, and under `error` as
    OpenAI sends it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"type": kind, "code": code, "message": message, "param": param}
    return {"type": "error", "error": error, "code": code, "message": message, "param": param}


class ResponseStream:
    """Convert one stream, chunk by chunk.

    `close` ends the stream when the provider's has ended: the usage comes after the last text.
    `ended` tells that nothing follows.
    """

    def __init__(self, request: ChatRequest) -> None:
        self.ended = False
        self.stopped = False
        self._request = request
        self._counter = OutputCounter(request)
        self._output: list[ToldItem] = []
        self._open: list[ToldItem] = []
        self._calls: dict[Any, OpenCall] = {}
        """The last call of a function by each of the provider's indexes, and by None the last."""
        self._calls_count = 0
        self._nameless: dict[int | None, dict[str, Any]] = {}
        """Calls that began without a name, which comes next, by their indexes."""
        self._reason = ""
        self._usage: Any = None
        self._moderation: dict[str, Any] = {}
        self._bytes = 0

    def feed(self, event: Fields, size: int = 0) -> Iterator[Event]:
        """Yield the events that follow from the provider's next chunk, of so many bytes."""
        if self.ended:
            return
        if error := event.get("error"):
            yield from self.fail(_convert_error(error))
            return
        self._counter.obfuscation = event.get("obfuscation")
        if self._counter.head is None:
            yield from self._start(event)
        if event.get("usage") is not None:
            self._usage = event["usage"]
        if event.get("moderation") is not None:
            self._moderation = convert_moderation(event)
        self._bytes += size
        if self._bytes > BYTES_MAX:
            yield from self.fail(make_error(502, TOO_LONG))
            return
        for choice in list_objects(event.get("choices")):
            # Responses has one answer: nobody can have asked for others.
            if choice.get("index") in (None, 0):
                yield from self._feed_choice(choice)

    def fail(self, error: Event) -> Iterator[Event]:
        """Yield the error that ends the stream, once."""
        if not self.ended:
            self.ended = True
            yield self._counter.number({**error})

    def close(self) -> Iterator[Event]:
        """Yield the end of the response, once: the provider's stream has ended."""
        if self.ended:
            return
        if self._counter.head is None or not self._reason:
            yield from self.fail(make_error(502, UNFINISHED))
            return
        yield from self._close_items()
        self.ended = True
        state = find_status(self._reason)
        output = [each.item for each in self._output]
        response = build_response(self._counter.head, self._request, output, state, self._usage)
        if self._moderation:
            response["moderation"] = self._moderation
        yield self._counter.number({"type": f"response.{state[0]}", "response": response})

    def _start(self, chunk: Fields) -> Iterator[Event]:
        self._counter.head = read_head(chunk, self._request)
        for kind in ("response.created", "response.in_progress"):
            begun = build_response(self._counter.head, self._request, (), ("in_progress", None))
            yield self._counter.number({"type": kind, "response": begun})

    def _feed_choice(self, choice: Fields) -> Iterator[Event]:
        delta = read_object(choice, "delta")
        text, thinking = read_content(delta.get("content"))
        field, shown = read_reasoning(delta)
        if reasoning := shown or thinking:
            yield from self._think(reasoning, field)
        if text:
            yield from self._speak("output_text", text, choice)
        if refusal := read_text(delta, "refusal"):
            yield from self._speak("refusal", refusal, choice)
        for annotation in list_objects(delta.get("annotations")):
            yield from self._cite(convert_annotation(annotation))
        calls = list_objects(delta.get("tool_calls"))
        if legacy := read_object(delta, "function_call"):
            calls.append({"index": 0, "function": legacy})
        for call in calls:
            yield from self._call(call)
        self._reason = read_text(choice, "finish_reason") or self._reason

    def _think(self, text: str, field: str) -> Iterator[Event]:
        item = self._last()
        if not isinstance(item, OpenReasoning):
            yield from self._close_texts()
            item = OpenReasoning(self._counter, field)
            yield from self._begin(item)
        yield item.add(text)

    def _speak(self, kind: str, text: str, choice: Fields) -> Iterator[Event]:
        item = self._last()
        if not isinstance(item, OpenMessage):
            yield from self._close_texts()
            item = OpenMessage(self._counter)
            yield from self._begin(item)
        yield from item.add(kind, text, choice)

    def _cite(self, annotation: dict[str, Any]) -> Iterator[Event]:
        item = self._last()
        if isinstance(item, OpenMessage):
            yield from item.cite(annotation)

    def _call(self, call: Fields) -> Iterator[Event]:
        if self.ended:
            return
        item = self._find_call(call)
        if item is None:
            index = read_index(call)
            said = {name: value for name, value in call.items() if value is not None}
            call = self._nameless.pop(index, {}) | said
            if not read_function(call):
                self._nameless[index] = call
                return
        yield from self._add_call(item, call)

    def _add_call(self, item: OpenCall | None, call: Fields) -> Iterator[Event]:
        """Yield what follows from a piece of an open call, or from the beginning of one."""
        if item is None:
            if self._calls_count >= CALLS_MAX:
                yield from self.fail(make_error(502, TOO_LONG))
                return
            yield from self._close_texts()
            item = OpenCall(self._counter, self._calls_count, call)
            self._calls[item.index] = self._calls[None] = item
            self._calls_count += 1
            yield from self._begin(item)
        yield from item.add(call)

    def _find_call(self, call: Fields) -> OpenCall | None:
        """Return the open call that a delta goes on with; None for a new one.

        Some servers state no index, or 0 for all calls: then another id begins another call.
        """
        item, call_id = self._calls.get(read_index(call)), read_text(call, "id")
        if item is not None and call_id and item.given_id and call_id != item.given_id:
            return None
        return item

    def _last(self) -> ToldItem | None:
        return self._open[-1] if self._open else None

    def _begin(self, item: ToldItem) -> Iterator[Event]:
        self._open.append(item)
        self._output.append(item)
        yield from item.begin()

    def _close_texts(self) -> Iterator[Event]:
        """Close an open message or reasoning: calls stay open, their deltas may alternate."""
        for item in [each for each in self._open if not isinstance(each, OpenCall)]:
            self._open.remove(item)
            yield from item.close("completed")

    def _close_items(self) -> Iterator[Event]:
        for call in self._nameless.values():
            yield from self._add_call(None, call)
        status = find_item_status(self._reason)
        for item in self._open:
            yield from item.close(status)
        self._open = []


def _convert_error(error: Any) -> Event:
    fields = as_object(error)
    message = read_text(fields, "message") or str(error)[:1_000]
    code = fields.get("code") or fields.get("type") or "upstream_error"
    return make_error(502, message, str(code), fields.get("param"))
