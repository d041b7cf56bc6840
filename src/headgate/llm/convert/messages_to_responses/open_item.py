"""Convert the events of one item of a Responses stream to blocks of a message."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import msgspec

from headgate.llm import sse
from headgate.llm.convert.fields import Fields, list_objects, read_count, read_object, read_text
from headgate.llm.convert.messages_to_responses.reply import (
    SUMMARY_SEPARATOR,
    Block,
    convert_annotation,
    convert_call,
    convert_execution,
    convert_reasoning,
    convert_search,
    find_cited,
)
from headgate.llm.convert.messages_to_responses.request import ConvertedRequest
from headgate.llm.convert.stop_sequences import StopSequences

Event = dict[str, Any]
HOSTED = {"web_search_call": convert_search, "code_interpreter_call": convert_execution}
ITEMS = {"text": "message", "tool_use": "function_call", "thinking": "reasoning"}
"""The types of items by those of the blocks that they become, piece by piece."""


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


class MessageWriter:
    """Make the events of one message, and know how far it is.

    The items share it. It knows none of them, so that a message that ends is freed at once.
    """

    def __init__(self) -> None:
        self.halted = False
        """Whether no further item is converted."""
        self.sequence: str | None = None
        """The stop sequence that cuts the message; None for none."""
        self.index = -1
        """That of the last block."""
        self.characters = 0
        self.has_calls = False

    def stop(self, sequence: str) -> None:
        """Convert no further: a stop sequence cuts the message here."""
        self.halted, self.sequence = True, sequence

    def open_block(self, block: Block) -> Event:
        self.index += 1
        self.has_calls = self.has_calls or block["type"] == "tool_use"
        return {"type": "content_block_start", "index": self.index, "content_block": block}

    def change_block(self, kind: str, **fields: Any) -> Event:
        self.characters += sum(len(each) for each in fields.values() if isinstance(each, str))
        return {
            "type": "content_block_delta",
            "index": self.index,
            "delta": {"type": kind, **fields},
        }

    def close_block(self) -> Event:
        return {"type": "content_block_stop", "index": self.index}


class OpenItem:
    """Convert the events of one item of the output to blocks of a message."""

    def __init__(
        self, writer: MessageWriter, request: ConvertedRequest, number: int, item: Fields
    ) -> None:
        self.number = number
        self._writer = writer
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
            if self._writer.halted:
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
            yield self._writer.change_block("text_delta", text=cut.text)
        self._open = ""
        yield self._writer.close_block()
        if cut.sequence is not None:
            self._writer.stop(cut.sequence)

    def _add_text(self, part: int, text: str) -> Iterator[Event]:
        if part != self._part or self._open != "text":
            yield from self._close()
            if self._writer.halted:
                return
            self._part, self._open, self._text = part, "text", io.StringIO()
            yield self._writer.open_block({"type": "text", "text": ""})
        self._text.write(text)
        cut = self._stop.feed(text)
        if cut.text:
            yield self._writer.change_block("text_delta", text=cut.text)
        if cut.sequence is not None:
            self._open = ""
            yield self._writer.close_block()
            self._writer.stop(cut.sequence)

    def _cite(self, annotation: Fields) -> Iterator[Event]:
        citation = convert_annotation(annotation, self._quote(find_cited(annotation)))
        if citation is not None and self._open == "text":
            yield self._writer.change_block("citations_delta", citation=citation)

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
                if self._writer.halted:
                    return

    def _open_call(self, item: Fields) -> Iterator[Event]:
        self._open = "tool_use"
        block = convert_call({**item, "arguments": None}, self._request.tool_names)
        yield self._writer.open_block(block)

    def _add_arguments(self, text: str) -> Iterator[Event]:
        if self._open != "tool_use":
            yield from self._close()
            if self._writer.halted:
                return
            yield from self._open_call(self._item)
        self._sent += len(text)
        if text:
            yield self._writer.change_block("input_json_delta", partial_json=text)

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
            if self._writer.halted:
                return
            yield self._open_thinking()
        elif part != self._part:
            text = SUMMARY_SEPARATOR + text
        self._part = part
        yield self._writer.change_block("thinking_delta", thinking=text)

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
            yield self._writer.change_block("signature_delta", signature=encrypted)

    def _open_thinking(self) -> Event:
        self._open = "thinking"
        return self._writer.open_block({"type": "thinking", "thinking": "", "signature": ""})

    def _send_block(self, block: Block) -> Iterator[Event]:
        """Send a whole block; the input of a tool comes as a delta, as always."""
        if block["type"] == "server_tool_use":
            yield self._writer.open_block({**block, "input": {}})
            text = msgspec.json.encode(block["input"]).decode()
            yield self._writer.change_block("input_json_delta", partial_json=text)
        else:
            yield self._writer.open_block(block)
        yield self._writer.close_block()
