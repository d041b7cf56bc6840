"""Convert the events of a Responses stream to those of a Messages stream.

A message stream has one `message_start`, blocks with consecutive indexes of which each is closed
before the next begins, one `message_delta` and one `message_stop`; or it ends with one `error`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from headgate.llm.convert.messages_to_responses import errors
from headgate.llm.convert.messages_to_responses.content import REDACTED_PREFIX
from headgate.llm.convert.messages_to_responses.reply import (
    SUMMARY_SEPARATOR,
    Block,
    convert_annotation,
    convert_call,
    convert_execution,
    convert_search,
    convert_usage,
    find_stop_reason,
    list_objects,
    make_message_id,
    read_count,
    read_object,
)
from headgate.llm.convert.messages_to_responses.request import ConvertedRequest
from headgate.llm.convert.messages_to_responses.stop_sequences import StopSequences

Fields = Mapping[str, Any]
Event = dict[str, Any]
HOSTED = {"web_search_call": convert_search, "code_interpreter_call": convert_execution}
NOTHING: Fields = {}
EVENTS_HELD_MAX = 100_000
"""How many events of later items are held while an earlier one is open."""


def encode_event(event: Event) -> bytes:
    """Return an event as a frame of the stream; its name is its type."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))


class MessageStream:
    """Convert one stream, event by event.

    `count_tokens` estimates the tokens of a text, for an answer that a stop sequence cuts: its
    provider never says what it used. `ended` tells that nothing follows, `stopped` that the rest
    of the provider's stream is not wanted.
    """

    def __init__(self, request: ConvertedRequest, count_tokens: Callable[[int], int]) -> None:
        self.ended = False
        self.stopped = False
        self.failed = False
        self._request = request
        self._count_tokens = count_tokens
        self._started = False
        self._index = -1
        self._item: OpenItem | None = None
        self._seen: set[int] = set()
        """The items that were converted, or are open."""
        self._held: deque[Fields] = deque()
        """Events of items that wait until the open one is done."""
        self._characters = 0
        self._calls = False

    def feed(self, event: Fields) -> Iterator[Event]:
        """Yield the events that follow from the provider's next one."""
        if self.ended:
            return
        kind = str(event.get("type") or "")
        if kind in ("response.completed", "response.incomplete"):
            yield from self._finish(read_object(event, "response"))
        elif kind == "response.failed":
            yield from self.fail(
                errors.convert_stream_error(read_object(read_object(event, "response"), "error"))
            )
        elif kind == "error":
            nested = read_object(event, "error")
            yield from self.fail(errors.convert_stream_error(nested or event))
        else:
            yield from self._start(read_object(event, "response"))
            if "output_index" in event:
                yield from self._feed_item(event)

    def fail(self, error: Event) -> Iterator[Event]:
        """Yield the error that ends the stream, once."""
        if not self.ended:
            self.ended = self.failed = True
            yield error

    def _start(self, response: Fields) -> Iterator[Event]:
        if self._started:
            return
        self._started = True
        yield {
            "type": "message_start",
            "message": {
                "id": make_message_id(response.get("id")),
                "type": "message",
                "role": "assistant",
                "model": str(response.get("model") or self._request.model),
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 0,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "output_tokens": 0,
                },
            },
        }
        yield {"type": "ping"}

    def _feed_item(self, event: Fields) -> Iterator[Event]:
        """Convert an event of the open item; hold those of others until it is done."""
        number = read_count(event, "output_index")
        if self._item is None and number not in self._seen:
            self._item = self._open_item(event, number)
        if self._item is None:
            return
        if self._item.number != number:
            if len(self._held) >= EVENTS_HELD_MAX:
                yield from self.fail(errors.make_error(502, "The provider's stream is invalid."))
            self._held.append(event)
            return
        yield from self._item.feed(event)
        if not self.ended and event.get("type") == "response.output_item.done":
            yield from self._close_item()

    def _open_item(self, event: Fields, number: int) -> OpenItem:
        self._seen.add(number)
        return OpenItem(self, self._request, number, read_object(event, "item"))

    def _close_item(self) -> Iterator[Event]:
        self._item = None
        held, self._held = self._held, deque()
        for event in held:
            if not self.ended:
                yield from self._feed_item(event)

    def _finish(self, response: Fields) -> Iterator[Event]:
        yield from self._start(response)
        items = list_objects(response.get("output"))
        # A provider may leave out the last events of an item, or all of them.
        while self._item is not None and not self.ended:
            number = self._item.number
            yield from self._item.finish(items[number] if number < len(items) else NOTHING)
            if not self.ended:
                yield from self._close_item()
        for number, item in enumerate(items):
            if number not in self._seen and not self.ended:
                self._seen.add(number)
                yield from OpenItem(self, self._request, number, item).finish(item)
        if self.ended:
            return
        blocks: list[Block] = [{"type": "tool_use"}] if self._calls else []
        yield from self.end(find_stop_reason(response, blocks), None, convert_usage(response))

    def end(
        self, stop_reason: str, sequence: str | None, usage: Mapping[str, Any]
    ) -> Iterator[Event]:
        """Yield the end of the message."""
        self.ended = True
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": sequence},
            "usage": usage,
        }
        yield {"type": "message_stop"}

    def stop(self, sequence: str) -> Iterator[Event]:
        """Yield the end of a message that a stop sequence cuts."""
        self.stopped = True
        usage = {"output_tokens": max(1, self._count_tokens(self._characters))}
        yield from self.end("stop_sequence", sequence, usage)

    def open_block(self, block: Block) -> Event:
        self._index += 1
        self._calls = self._calls or block["type"] == "tool_use"
        return {"type": "content_block_start", "index": self._index, "content_block": block}

    def change_block(self, kind: str, **fields: Any) -> Event:
        self._characters += sum(len(each) for each in fields.values() if isinstance(each, str))
        return {
            "type": "content_block_delta",
            "index": self._index,
            "delta": {"type": kind, **fields},
        }

    def close_block(self) -> Event:
        return {"type": "content_block_stop", "index": self._index}


class OpenItem:
    """Convert the events of one item of the output to blocks of a message."""

    def __init__(
        self, stream: MessageStream, request: ConvertedRequest, number: int, item: Fields
    ) -> None:
        self.number = number
        self._stream = stream
        self._request = request
        self._kind = str(item.get("type") or "")
        self._open = ""
        """The type of the open block; empty for none."""
        self._part: int = -1
        self._text = ""
        self._sent = 0
        """Characters of arguments, or of thinking, that were sent."""
        self._parts_done: set[int] = set()
        self._stop = StopSequences(request.stop_sequences)
        self._item = item

    def feed(self, event: Fields) -> Iterator[Event]:
        """Yield the events that follow from one of this item."""
        kind = event.get("type")
        if kind == "response.output_item.added" and self._kind == "function_call":
            yield from self._open_call(self._item)
        elif kind in ("response.output_text.delta", "response.refusal.delta"):
            yield from self._add_text(read_count(event, "content_index"), read_delta(event))
        elif kind == "response.output_text.annotation.added":
            yield from self._cite(read_object(event, "annotation"))
        elif kind == "response.function_call_arguments.delta":
            yield from self._add_arguments(read_delta(event))
        elif kind == "response.function_call_arguments.done":
            yield from self._complete_arguments(event.get("arguments"))
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            yield from self._think(event)
        elif kind == "response.output_item.done":
            yield from self.finish(read_object(event, "item"))

    def finish(self, item: Fields) -> Iterator[Event]:
        """Yield what the whole item has and its events did not, and close its last block."""
        item = item or self._item
        kind = str(item.get("type") or self._kind)
        if kind == "message":
            yield from self._finish_message(item)
        elif kind == "function_call":
            if not self._open:
                yield from self._open_call(item)
            yield from self._complete_arguments(item.get("arguments"))
        elif kind == "reasoning" and self._request.shows_thinking:
            yield from self._finish_thinking(item)
        elif kind in HOSTED:
            for block in HOSTED[kind](item):
                yield from self._send_block(block)
        yield from self._close()

    def _close(self) -> Iterator[Event]:
        """Close the open block, with the text that was held back."""
        if not self._open:
            return
        cut = self._stop.finish()
        if self._open == "text" and cut.text:
            yield self._stream.change_block("text_delta", text=cut.text)
        self._open = ""
        yield self._stream.close_block()
        if cut.sequence is not None:
            yield from self._stream.stop(cut.sequence)

    def _add_text(self, part: int, text: str) -> Iterator[Event]:
        if part != self._part or self._open != "text":
            yield from self._close()
            if self._stream.ended:
                return
            self._part, self._open, self._text = part, "text", ""
            self._parts_done.add(part)
            yield self._stream.open_block({"type": "text", "text": ""})
        self._text += text
        cut = self._stop.feed(text)
        if cut.text:
            yield self._stream.change_block("text_delta", text=cut.text)
        if cut.sequence is not None:
            self._open = ""
            yield self._stream.close_block()
            yield from self._stream.stop(cut.sequence)

    def _cite(self, annotation: Fields) -> Iterator[Event]:
        citation = convert_annotation(annotation, self._text)
        if citation is not None and self._open == "text":
            yield self._stream.change_block("citations_delta", citation=citation)

    def _finish_message(self, item: Fields) -> Iterator[Event]:
        for number, part in enumerate(list_objects(item.get("content"))):
            text = part.get("text") or part.get("refusal")
            if number not in self._parts_done and isinstance(text, str) and text:
                yield from self._add_text(number, text)
                if self._stream.ended:
                    return

    def _open_call(self, item: Fields) -> Iterator[Event]:
        self._open = "tool_use"
        block = convert_call({**item, "arguments": None}, self._request.tool_names)
        yield self._stream.open_block(block)

    def _add_arguments(self, text: str) -> Iterator[Event]:
        if not self._open:
            yield from self._open_call(self._item)
        self._sent += len(text)
        if text:
            yield self._stream.change_block("input_json_delta", partial_json=text)

    def _complete_arguments(self, arguments: Any) -> Iterator[Event]:
        """Send the rest of the arguments: a provider may tell them in its last event only."""
        if isinstance(arguments, str) and len(arguments) > self._sent:
            yield from self._add_arguments(arguments[self._sent :])

    def _think(self, event: Fields) -> Iterator[Event]:
        if not self._request.shows_thinking:
            return
        part = read_count(event, "summary_index")
        text = read_delta(event)
        if self._open != "thinking":
            self._open = "thinking"
            yield self._stream.open_block({"type": "thinking", "thinking": "", "signature": ""})
        elif part != self._part:
            text = SUMMARY_SEPARATOR + text
        self._part = part
        self._sent += len(text)
        yield self._stream.change_block("thinking_delta", thinking=text)

    def _finish_thinking(self, item: Fields) -> Iterator[Event]:
        summary = [str(each.get("text") or "") for each in list_objects(item.get("summary"))]
        thinking = SUMMARY_SEPARATOR.join(filter(None, summary))
        encrypted = str(item.get("encrypted_content") or "")
        if not self._open and not thinking:
            if encrypted:
                data = REDACTED_PREFIX + encrypted
                yield from self._send_block({"type": "redacted_thinking", "data": data})
            return
        if not self._open:
            yield from self._think({"delta": thinking})
        if encrypted:
            yield self._stream.change_block("signature_delta", signature=encrypted)

    def _send_block(self, block: Block) -> Iterator[Event]:
        """Send a whole block; the input of a tool comes as a delta, as always."""
        if block["type"] == "server_tool_use":
            yield self._stream.open_block({**block, "input": {}})
            text = msgspec.json.encode(block["input"]).decode()
            yield self._stream.change_block("input_json_delta", partial_json=text)
        else:
            yield self._stream.open_block(block)
        yield self._stream.close_block()


def read_delta(event: Fields) -> str:
    delta = event.get("delta")
    return delta if isinstance(delta, str) else ""
