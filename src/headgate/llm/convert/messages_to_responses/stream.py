"""Convert the events of a Responses stream to those of a Messages stream.

A message stream has one `message_start`, blocks with consecutive indexes of which each is closed
before the next begins, one `message_delta` and one `message_stop`; or it ends with one `error`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from headgate.llm import sse
from headgate.llm.answers import DECODE_ERRORS
from headgate.llm.convert.fields import Fields, list_objects, read_count, read_object, read_text
from headgate.llm.convert.messages_to_responses import errors
from headgate.llm.convert.messages_to_responses.reply import (
    SUMMARY_SEPARATOR,
    Block,
    convert_annotation,
    convert_call,
    convert_execution,
    convert_reasoning,
    convert_search,
    convert_usage,
    find_cited,
    find_stop_reason,
    make_message_id,
)
from headgate.llm.convert.messages_to_responses.request import ConvertedRequest
from headgate.llm.convert.stop_sequences import StopSequences

Event = dict[str, Any]
HOSTED = {"web_search_call": convert_search, "code_interpreter_call": convert_execution}
ITEMS = {"text": "message", "tool_use": "function_call", "thinking": "reasoning"}
"""The types of items by those of the blocks that they become, piece by piece."""
NOTHING: Fields = {}
LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed")
EVENTS_HELD_MAX = 20_000
"""How many events of later items are held while an earlier one is open."""
BYTES_HELD_MAX = 8 << 20


TYPE_BYTES = 96
"""Within so many bytes an event tells its type."""


class Piece(msgspec.Struct):
    """Hold an event that adds a piece of text to an item."""

    type: str
    output_index: int
    delta: str
    content_index: int = 0
    summary_index: int = 0


def make_frame(kind: str, field: str) -> bytes:
    """Return the frame of a delta, with places for the index and the text."""
    data = f'{{"type":"content_block_delta","index":%d,"delta":{{"type":"{kind}","{field}":%b}}}}'
    return sse.encode_event(data.encode(), b"content_block_delta")


TEXT_FRAME = make_frame("text_delta", "text")
JSON_FRAME = make_frame("input_json_delta", "partial_json")
THINKING_FRAME = make_frame("thinking_delta", "thinking")
_decode_piece = msgspec.json.Decoder(Piece).decode
_encode = msgspec.json.Encoder().encode


def encode_event(event: Event) -> bytes:
    """Return an event as a frame of the stream; its name is its type."""
    return sse.encode_event(msgspec.json.encode(event), event["type"].encode())


class MessageStream:
    """Convert one stream, event by event.

    `count_tokens` estimates the tokens of so many characters, for an answer that a stop sequence
    cuts and that is not read to its end. `ended` tells that nothing follows, `stopped` that the
    rest of the provider's stream is not wanted: `close` then ends the message.
    """

    def __init__(self, request: ConvertedRequest, count_tokens: Callable[[int], int]) -> None:
        self.ended = False
        self.stopped = False
        self.halted = False
        """Whether no further item is converted."""
        self._sequence: str | None = None
        self._request = request
        self._count_tokens = count_tokens
        self._started = False
        self._index = -1
        self._item: OpenItem | None = None
        self._seen: set[int] = set()
        """The items that were converted, or are open."""
        self._held: dict[int, list[tuple[Fields, int]]] = {}
        """Events of items that wait until the open one is done, with their sizes, by item."""
        self._held_events = 0
        self._held_bytes = 0
        self._characters = 0
        self._calls = False

    def feed(self, event: Fields, size: int = 0) -> Iterator[Event]:
        """Yield the events that follow from the provider's next one, of so many bytes."""
        kind = str(event.get("type") or "")
        if self.halted:
            if self.stopped and kind in LAST_EVENTS:
                yield from self.close(read_object(event, "response"))
        elif kind in ("response.completed", "response.incomplete"):
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
                yield from self._feed_item(event, size)

    def feed_piece(self, data: bytes) -> bytes | None:
        """Return the frame of an event that only adds to the open block; None for any other, which
        is for `feed`. Most events are such pieces."""
        item = self._item
        if item is None or self.halted or data.find(b'.delta"', 0, TYPE_BYTES) < 0:
            return None
        try:
            piece = _decode_piece(data)
        except DECODE_ERRORS:
            return None
        frame = item.take(piece)
        if frame is None:
            return None
        self._characters += len(piece.delta)
        return frame % (self._index, _encode(piece.delta))

    def fail(self, error: Event) -> Iterator[Event]:
        """Yield the error that ends the stream, once."""
        if not self.ended:
            self.ended = self.halted = True
            yield error

    def close(self, response: Fields = NOTHING) -> Iterator[Event]:
        """Yield the end of a message that a stop sequence cut, once: with the usage that the
        provider reports in its whole response, or an estimate."""
        if not self.stopped or self.ended:
            return
        usage: Mapping[str, Any] = {"output_tokens": max(1, self._count_tokens(self._characters))}
        if response.get("usage"):
            usage = convert_usage(response)
        yield from self.end("stop_sequence", self._sequence, usage)

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

    def _feed_item(self, event: Fields, size: int) -> Iterator[Event]:
        """Convert an event of the open item; hold those of others until it is done."""
        number = read_count(event, "output_index")
        if self._item is None and number not in self._seen:
            self._item = self._open_item(event, number)
        if self._item is not None and self._item.number != number:
            if number not in self._seen:
                yield from self._hold(number, event, size)
        elif self._item is not None:
            yield from self._feed_open(event)
            yield from self._feed_held()

    def _hold(self, number: int, event: Fields, size: int) -> Iterator[Event]:
        self._held.setdefault(number, []).append((event, size))
        self._held_events += 1
        self._held_bytes += size
        if self._held_events > EVENTS_HELD_MAX or self._held_bytes > BYTES_HELD_MAX:
            self._held.clear()
            message = "The provider's stream has too many items at once."
            yield from self.fail(errors.make_error(502, message))

    def _feed_open(self, event: Fields) -> Iterator[Event]:
        assert self._item is not None
        yield from self._item.feed(event)
        if event.get("type") == "response.output_item.done":
            self._item = None

    def _feed_held(self) -> Iterator[Event]:
        """Convert what waited, item by item, until one of them is not done."""
        while self._item is None and self._held and not self.halted:
            number = next(iter(self._held))
            held = self._held.pop(number)
            self._held_events -= len(held)
            self._held_bytes -= sum([size for _, size in held])
            self._item = self._open_item(held[0][0], number)
            yield from self._feed_all([event for event, _ in held])

    def _feed_all(self, events: list[Fields]) -> Iterator[Event]:
        """Convert the events of the open item, until it is done."""
        for event in events:
            if self._item is None or self.halted:
                return
            yield from self._feed_open(event)

    def _open_item(self, event: Fields, number: int) -> OpenItem:
        self._seen.add(number)
        return OpenItem(self, self._request, number, read_object(event, "item"))

    def _finish(self, response: Fields) -> Iterator[Event]:
        yield from self._start(response)
        items = list_objects(response.get("output"))
        # A provider may leave out the last events of an item, or all of them.
        while self._item is not None and not self.halted:
            number = self._item.number
            yield from self._item.finish(items[number] if number < len(items) else NOTHING)
            self._item = None
            yield from self._feed_held()
        for number, item in enumerate(items):
            if number not in self._seen and not self.halted:
                self._seen.add(number)
                yield from OpenItem(self, self._request, number, item).finish(item)
        if self.halted:
            return
        blocks: list[Block] = [{"type": "tool_use"}] if self._calls else []
        yield from self.end(find_stop_reason(response, blocks), None, convert_usage(response))

    def end(
        self, stop_reason: str, sequence: str | None, usage: Mapping[str, Any]
    ) -> Iterator[Event]:
        """Yield the end of the message."""
        self.ended = self.halted = True
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": sequence},
            "usage": usage,
        }
        yield {"type": "message_stop"}

    def stop(self, sequence: str) -> None:
        """Convert no further: a stop sequence cuts the message here."""
        self.stopped = self.halted = True
        self._sequence = sequence

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
        self._text = io.StringIO()
        """The open block's text, which citations quote."""
        self._sent = 0
        """Characters of arguments that were sent."""
        self._came: dict[int, int] = {}
        """Characters of each part of a message that came."""
        self._stop = StopSequences(request.stop_sequences)
        self._item = item

    def feed(self, event: Fields) -> Iterator[Event]:
        """Yield the events that follow from one of this item."""
        kind = event.get("type")
        if kind == "response.output_item.added":
            # A provider may repeat it.
            if self._kind == "function_call" and not self._open:
                yield from self._open_call(self._item)
        elif kind in ("response.output_text.delta", "response.refusal.delta"):
            yield from self._add_text(read_count(event, "content_index"), read_text(event, "delta"))
        elif kind == "response.output_text.annotation.added":
            yield from self._cite(read_object(event, "annotation"))
        elif kind == "response.function_call_arguments.delta":
            yield from self._add_arguments(read_text(event, "delta"))
        elif kind == "response.function_call_arguments.done":
            yield from self._complete_arguments(event.get("arguments"))
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            yield from self._think(event)
        elif kind == "response.output_item.done":
            yield from self.finish(read_object(event, "item"))

    def take(self, piece: Piece) -> bytes | None:
        """Add a piece to the open block, and return its frame; None for a piece that does more."""
        kind = piece.type
        if piece.output_index != self.number or not piece.delta:
            return None
        if kind == "response.output_text.delta":
            is_open = self._open == "text" and piece.content_index == self._part
            if not is_open or self._request.stop_sequences:
                return None
            self._text.write(piece.delta)
            return TEXT_FRAME
        if kind == "response.function_call_arguments.delta" and self._open == "tool_use":
            self._sent += len(piece.delta)
            return JSON_FRAME
        if kind == "response.reasoning_summary_text.delta" and self._open == "thinking":
            return THINKING_FRAME if piece.summary_index == self._part else None
        return None

    def finish(self, item: Fields) -> Iterator[Event]:
        """Yield what the whole item has and its events did not, and close its last block."""
        item = item or self._item
        kind = str(item.get("type") or self._kind)
        if self._open and ITEMS.get(self._open) != kind:
            yield from self._close()
            if self._stream.halted:
                return
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
        if self._open == "text":
            self._came[self._part] = self._came.get(self._part, 0) + self._text.tell()
        cut = self._stop.finish()
        if self._open == "text" and cut.text:
            yield self._stream.change_block("text_delta", text=cut.text)
        self._open = ""
        yield self._stream.close_block()
        if cut.sequence is not None:
            self._stream.stop(cut.sequence)

    def _add_text(self, part: int, text: str) -> Iterator[Event]:
        if part != self._part or self._open != "text":
            yield from self._close()
            if self._stream.halted:
                return
            self._part, self._open, self._text = part, "text", io.StringIO()
            yield self._stream.open_block({"type": "text", "text": ""})
        self._text.write(text)
        cut = self._stop.feed(text)
        if cut.text:
            yield self._stream.change_block("text_delta", text=cut.text)
        if cut.sequence is not None:
            self._open = ""
            yield self._stream.close_block()
            self._stream.stop(cut.sequence)

    def _cite(self, annotation: Fields) -> Iterator[Event]:
        citation = convert_annotation(annotation, self._quote(find_cited(annotation)))
        if citation is not None and self._open == "text":
            yield self._stream.change_block("citations_delta", citation=citation)

    def _quote(self, cited: slice) -> str:
        text = self._text
        text.seek(min(cited.start, text.tell()))
        quoted = text.read(max(0, cited.stop - cited.start))
        text.seek(0, io.SEEK_END)
        return quoted

    def _finish_message(self, item: Fields) -> Iterator[Event]:
        for number, part in enumerate(list_objects(item.get("content"))):
            text = part.get("text") or part.get("refusal")
            came = self._came.get(number, 0)
            if self._open == "text" and number == self._part:
                came += self._text.tell()
            if isinstance(text, str) and len(text) > came:
                yield from self._add_text(number, text[came:])
                if self._stream.halted:
                    return

    def _open_call(self, item: Fields) -> Iterator[Event]:
        self._open = "tool_use"
        block = convert_call({**item, "arguments": None}, self._request.tool_names)
        yield self._stream.open_block(block)

    def _add_arguments(self, text: str) -> Iterator[Event]:
        if self._open != "tool_use":
            yield from self._close()
            if self._stream.halted:
                return
            yield from self._open_call(self._item)
        self._sent += len(text)
        if text:
            yield self._stream.change_block("input_json_delta", partial_json=text)

    def _complete_arguments(self, arguments: Any) -> Iterator[Event]:
        """Send the rest of the arguments: a provider may tell them in its last event only."""
        if isinstance(arguments, str) and len(arguments) > self._sent:
            yield from self._add_arguments(arguments[self._sent :])

    def _think(self, event: Fields) -> Iterator[Event]:
        if not self._request.shows_thinking or self._request.omits_thinking:
            return
        part = read_count(event, "summary_index")
        text = read_text(event, "delta")
        if self._open != "thinking":
            yield from self._close()
            if self._stream.halted:
                return
            yield self._open_thinking()
        elif part != self._part:
            text = SUMMARY_SEPARATOR + text
        self._part = part
        yield self._stream.change_block("thinking_delta", thinking=text)

    def _finish_thinking(self, item: Fields) -> Iterator[Event]:
        block = convert_reasoning(item, self._request)
        if not self._open and block is not None:
            if block["type"] == "redacted_thinking":
                yield from self._send_block(block)
            elif block["thinking"]:
                yield from self._think({"delta": block["thinking"]})
            else:
                yield self._open_thinking()
        encrypted = str(item.get("encrypted_content") or "")
        if self._open and encrypted:
            yield self._stream.change_block("signature_delta", signature=encrypted)

    def _open_thinking(self) -> Event:
        self._open = "thinking"
        return self._stream.open_block({"type": "thinking", "thinking": "", "signature": ""})

    def _send_block(self, block: Block) -> Iterator[Event]:
        """Send a whole block; the input of a tool comes as a delta, as always."""
        if block["type"] == "server_tool_use":
            yield self._stream.open_block({**block, "input": {}})
            text = msgspec.json.encode(block["input"]).decode()
            yield self._stream.change_block("input_json_delta", partial_json=text)
        else:
            yield self._stream.open_block(block)
        yield self._stream.close_block()
