"""Convert the events of a Responses stream to those of a Messages stream.

A message stream has one `message_start`, blocks with consecutive indexes of which each is closed
before the next begins, one `message_delta` and one `message_stop`; or it ends with one `error`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from headgate.llm import sse
from headgate.llm.answers import DECODE_ERRORS
from headgate.llm.convert.fields import Fields, list_objects, read_count, read_object
from headgate.llm.convert.messages_to_responses import errors
from headgate.llm.convert.messages_to_responses.open_item import (
    Event,
    MessageWriter,
    OpenItem,
    Piece,
)
from headgate.llm.convert.messages_to_responses.reply import (
    Block,
    convert_usage,
    find_stop_reason,
    make_message_id,
)
from headgate.llm.convert.messages_to_responses.request import ConvertedRequest

NOTHING: Fields = {}
LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed")
EVENTS_HELD_MAX = 20_000
"""How many events of later items are held while an earlier one is open."""
BYTES_HELD_MAX = 8 << 20
TYPE_BYTES = 96
"""Within so many bytes an event tells its type."""
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
        self._request = request
        self._count_tokens = count_tokens
        self._started = False
        self._writer = MessageWriter()
        self._item: OpenItem | None = None
        self._seen: set[int] = set()
        """The items that were converted, or are open."""
        self._held: dict[int, list[tuple[Fields, int]]] = {}
        """Events of items that wait until the open one is done, with their sizes, by item."""
        self._held_events = 0
        self._held_bytes = 0

    @property
    def stopped(self) -> bool:
        return self._writer.sequence is not None

    def feed(self, event: Fields, size: int = 0) -> Iterator[Event]:
        """Yield the events that follow from the provider's next one, of so many bytes."""
        kind = str(event.get("type") or "")
        if self._writer.halted:
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
        if item is None or self._writer.halted or data.find(b'.delta"', 0, TYPE_BYTES) < 0:
            return None
        try:
            piece = _decode_piece(data)
        except DECODE_ERRORS:
            return None
        frame = item.take(piece)
        if frame is None:
            return None
        self._writer.characters += len(piece.delta)
        return frame % (self._writer.index, _encode(piece.delta))

    def fail(self, error: Event) -> Iterator[Event]:
        """Yield the error that ends the stream, once."""
        if not self.ended:
            self.ended = self._writer.halted = True
            yield error

    def close(self, response: Fields = NOTHING) -> Iterator[Event]:
        """Yield the end of a message that a stop sequence cut, once: with the usage that the
        provider reports in its whole response, or an estimate."""
        if not self.stopped or self.ended:
            return
        usage: Mapping[str, Any] = {
            "output_tokens": max(1, self._count_tokens(self._writer.characters))
        }
        if response.get("usage"):
            usage = convert_usage(response)
        yield from self.end("stop_sequence", self._writer.sequence, usage)

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
        while self._item is None and self._held and not self._writer.halted:
            number = next(iter(self._held))
            held = self._held.pop(number)
            self._held_events -= len(held)
            self._held_bytes -= sum([size for _, size in held])
            self._item = self._open_item(held[0][0], number)
            yield from self._feed_all([event for event, _ in held])

    def _feed_all(self, events: list[Fields]) -> Iterator[Event]:
        """Convert the events of the open item, until it is done."""
        for event in events:
            if self._item is None or self._writer.halted:
                return
            yield from self._feed_open(event)

    def _open_item(self, event: Fields, number: int) -> OpenItem:
        self._seen.add(number)
        return OpenItem(self._writer, self._request, number, read_object(event, "item"))

    def _finish(self, response: Fields) -> Iterator[Event]:
        yield from self._start(response)
        items = list_objects(response.get("output"))
        # A provider may leave out the last events of an item, or all of them.
        while self._item is not None and not self._writer.halted:
            number = self._item.number
            yield from self._item.finish(items[number] if number < len(items) else NOTHING)
            self._item = None
            yield from self._feed_held()
        for number, item in enumerate(items):
            if number not in self._seen and not self._writer.halted:
                self._seen.add(number)
                yield from OpenItem(self._writer, self._request, number, item).finish(item)
        if self._writer.halted:
            return
        blocks: list[Block] = [{"type": "tool_use"}] if self._writer.has_calls else []
        yield from self.end(find_stop_reason(response, blocks), None, convert_usage(response))

    def end(
        self, stop_reason: str, sequence: str | None, usage: Mapping[str, Any]
    ) -> Iterator[Event]:
        """Yield the end of the message."""
        self.ended = self._writer.halted = True
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": sequence},
            "usage": usage,
        }
        yield {"type": "message_stop"}
