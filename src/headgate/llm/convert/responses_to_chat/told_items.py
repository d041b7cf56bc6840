"""Tell the items of a Responses stream: the beginning of each, its pieces, and its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from headgate.llm.convert.fields import Fields, read_object, read_text
from headgate.llm.convert.responses_to_chat.reply import (
    AnswerHead,
    Item,
    make_call,
    make_message,
    make_reasoning,
    make_text,
    read_arguments,
    read_logprobs,
)
from headgate.llm.convert.responses_to_chat.request import ChatRequest
from headgate.llm.convert.responses_to_chat.tools import unwrap_input

Event = dict[str, Any]


class OutputCounter:
    """Number the events of one response, and make the ids of its items.

    The items share it. It knows none of them, so that an answer that ends is freed at once.
    """

    def __init__(self, request: ChatRequest) -> None:
        self.request = request
        self.head: AnswerHead | None = None
        self.obfuscation: Any = None
        """What the next delta repeats of the provider's chunk."""
        self._events = 0
        self._items = 0
        self._kinds: Counter[str] = Counter()

    def number(self, event: Event) -> Event:
        """Give an event the next number."""
        event["sequence_number"] = self._events
        self._events += 1
        if self.obfuscation is not None and event["type"].endswith(".delta"):
            event["obfuscation"] = self.obfuscation
            self.obfuscation = None
        return event

    def make_id(self, prefix: str) -> str:
        """Return the id of the next item of a kind."""
        assert self.head is not None, "the stream has begun"
        number = self._kinds[prefix]
        self._kinds[prefix] += 1
        return self.head.make_id(prefix, number)

    def count_item(self) -> int:
        """Return the index of a new item in the output."""
        self._items += 1
        return self._items - 1


class ToldItem:
    """Tell one item of the output: its beginning, its pieces, its end."""

    def __init__(self, counter: OutputCounter, item: Item) -> None:
        self.item = item
        self.place = {"item_id": item["id"], "output_index": counter.count_item()}
        self._counter = counter
        self._pieces: list[str] = []

    def begin(self) -> Iterator[Event]:
        item = {**msgspec.to_builtins(self.item), "status": "in_progress"}
        yield self._tell("response.output_item.added", item=item)

    def close(self, status: str) -> Iterator[Event]:
        """Yield the end of the item."""
        self.item["status"] = status
        yield self._tell("response.output_item.done", item=self.item)

    def _tell(self, kind: str, **fields: Any) -> Event:
        place = {"output_index": self.place["output_index"]} if "item" in fields else self.place
        return self._counter.number({"type": kind, **place, **fields})


class OpenReasoning(ToldItem):
    """Tell the reasoning that a server shows, in one part."""

    def __init__(self, counter: OutputCounter, field: str) -> None:
        super().__init__(counter, make_reasoning(counter.make_id("rs"), "", field, counter.request))

    def begin(self) -> Iterator[Event]:
        yield from super().begin()
        part = {"type": "reasoning_text", "text": ""}
        yield self._tell("response.content_part.added", content_index=0, part=part)

    def add(self, text: str) -> Event:
        self._pieces.append(text)
        return self._tell("response.reasoning_text.delta", content_index=0, delta=text)

    def close(self, status: str) -> Iterator[Event]:
        text = "".join(self._pieces)
        part = {"type": "reasoning_text", "text": text}
        yield self._tell("response.reasoning_text.done", content_index=0, text=text)
        yield self._tell("response.content_part.done", content_index=0, part=part)
        self.item["content"] = [part]
        yield from super().close(status)


class OpenMessage(ToldItem):
    """Tell a message: a part of text, a part of refusal, or one after the other."""

    def __init__(self, counter: OutputCounter) -> None:
        super().__init__(counter, make_message(counter.make_id("msg"), (), "completed"))
        self._part: dict[str, Any] = {}
        """The open part; empty for none."""

    def add(self, kind: str, text: str, choice: Fields) -> Iterator[Event]:
        """Yield a piece of a part (`output_text` or `refusal`), and the beginning of a new one."""
        if self._part.get("type") != kind:
            yield from self._close_part()
            yield from self._open_part(kind)
        self._pieces.append(text)
        fields: dict[str, Any] = {"content_index": len(self.item["content"]), "delta": text}
        if kind == "output_text":
            found = read_logprobs(choice) if self._counter.request.shows_logprobs else []
            fields["logprobs"] = found
            self._part["logprobs"] += found
        yield self._tell(f"response.{kind}.delta", **fields)

    def cite(self, annotation: dict[str, Any]) -> Iterator[Event]:
        if self._part.get("type") != "output_text":
            return
        known = self._part["annotations"]
        known.append(annotation)
        yield self._tell(
            "response.output_text.annotation.added",
            content_index=len(self.item["content"]),
            annotation_index=len(known) - 1,
            annotation=annotation,
        )

    def close(self, status: str) -> Iterator[Event]:
        yield from self._close_part()
        yield from super().close(status)

    def _open_part(self, kind: str) -> Iterator[Event]:
        self._part = make_text("") if kind == "output_text" else {"type": kind, "refusal": ""}
        begun = msgspec.to_builtins(self._part)
        index = len(self.item["content"])
        yield self._tell("response.content_part.added", content_index=index, part=begun)

    def _close_part(self) -> Iterator[Event]:
        if not self._part:
            return
        part, self._part = self._part, {}
        kind = part["type"]
        field = "text" if kind == "output_text" else "refusal"
        part[field] = "".join(self._pieces)
        self._pieces = []
        index = len(self.item["content"])
        fields: dict[str, Any] = {"content_index": index, field: part[field]}
        if kind == "output_text":
            fields["logprobs"] = part["logprobs"]
        yield self._tell(f"response.{kind}.done", **fields)
        yield self._tell("response.content_part.done", content_index=index, part=part)
        self.item["content"].append(part)


class OpenCall(ToldItem):
    """Tell the call of a function, or of a custom tool, whose input is told at its end."""

    def __init__(self, counter: OutputCounter, number: int, call: Fields) -> None:
        assert counter.head is not None, "the stream has begun"
        self.index = read_index(call)
        self.given_id = read_text(call, "id")
        name = read_text(read_function(call), "name")
        self._is_native = bool(read_object(call, "custom"))
        self._is_custom = self._is_native or name in counter.request.custom_tools
        call_id = self.given_id or counter.head.make_id("call", number)
        item = make_call(
            counter.head, number, call_id, name, counter.request, is_custom=self._is_custom
        )
        self._field = "input" if self._is_custom else "arguments"
        item[self._field] = ""
        super().__init__(counter, item)

    def add(self, call: Fields) -> Iterator[Event]:
        """Yield a piece of the arguments."""
        function = read_function(call)
        given = function.get("input" if self._is_native else "arguments")
        piece = "" if given is None else read_arguments(given)
        if piece:
            self._pieces.append(piece)
            if not self._is_custom:
                yield self._tell("response.function_call_arguments.delta", delta=piece)

    def close(self, status: str) -> Iterator[Event]:
        whole = "".join(self._pieces)
        if not self._is_custom:
            whole = whole or "{}"
            self.item["arguments"] = whole
            name = self.item["name"]
            kind = "response.function_call_arguments.done"
            yield self._tell(kind, arguments=whole, name=name)
        else:
            text = whole if self._is_native else unwrap_input(whole)
            self.item["input"] = text
            if text:
                yield self._tell("response.custom_tool_call_input.delta", delta=text)
            yield self._tell("response.custom_tool_call_input.done", input=text)
        yield from super().close(status)


def read_index(call: Fields) -> int | None:
    index = call.get("index")
    return index if isinstance(index, int) else None


def read_function(call: Fields) -> Fields:
    """Return what a piece of a call says of its function; empty for nothing."""
    function = read_object(call, "custom") or read_object(call, "function")
    return function if any(function.values()) else {}
