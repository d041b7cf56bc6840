"""The grammar of a Responses stream: what every client may rely on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Event = dict[str, Any]
LAST = ("response.completed", "response.incomplete", "response.failed")
BEGINNING = ("response.queued", "response.in_progress")
TEXTS = {
    "response.output_text": ("content_index", "text"),
    "response.refusal": ("content_index", "refusal"),
    "response.reasoning_text": ("content_index", "text"),
    "response.reasoning_summary_text": ("summary_index", "text"),
}
"""By the beginning of an event's type: the field of its part's index, and of its whole text."""
PARTS = {
    "response.content_part": "content_index",
    "response.reasoning_summary_part": "summary_index",
}
CALLS = {
    "response.function_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
    "response.mcp_call_arguments": "arguments",
    "response.code_interpreter_call_code": "code",
}


def check_stream(events: Iterable[Event]) -> None:
    """Assert that events are one whole stream, or one that ends with an error."""
    machine = ResponsesMachine()
    for event in events:
        machine.feed(event)
    machine.finish()


class ResponsesMachine:
    """Follow one stream, event by event."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._begun = False
        self._ended = False
        self._items: dict[int, _Item] = {}
        self._done: list[Event] = []

    def feed(self, event: Event) -> None:
        assert not self._ended, f"{event['type']} comes after the end"
        self._check_number(event)
        kind = event["type"]
        if kind == "error":
            assert event["message"]
            self._ended = True
        elif kind == "response.created":
            assert not self._begun, "the response begins twice"
            self._begun = True
            assert event["response"]["status"] in ("queued", "in_progress")
        else:
            assert self._begun, f"{kind} comes before response.created"
            self._feed_begun(kind, event)

    def finish(self) -> None:
        assert self._ended, "the stream has no end"

    def _check_number(self, event: Event) -> None:
        number = event["sequence_number"]
        if self._number is not None:
            assert number == self._number + 1, f"{number} comes after {self._number}"
        self._number = number

    def _feed_begun(self, kind: str, event: Event) -> None:
        if kind in LAST:
            self._end(kind, event["response"])
        elif kind in BEGINNING:
            assert not self._items, f"{kind} comes after an item"
        elif kind == "response.output_item.added":
            assert event["output_index"] == len(self._items), "items are not in order"
            self._items[event["output_index"]] = _Item(event["item"])
        else:
            item = self._items[event["output_index"]]
            assert not item.done, f"{kind} comes after the end of its item"
            if kind == "response.output_item.done":
                item.end(event["item"])
            else:
                assert event["item_id"] == item.identity
                item.feed(kind, event)

    def _end(self, kind: str, response: Event) -> None:
        self._ended = True
        assert kind == f"response.{response['status']}"
        if kind == "response.failed":
            return
        assert all(item.done for item in self._items.values()), "an item has no end"
        assert response["output"] == [item.whole for item in self._items.values()]
        assert (response["incomplete_details"] is None) == (kind == "response.completed")


class _Item:
    """Follow one item: its parts and its texts are told piece by piece, then whole."""

    def __init__(self, item: Event) -> None:
        self.identity = item.get("id")
        self.whole: Event = {}
        self._kind = item["type"]
        self._texts: dict[tuple[str, int], str] = {}
        self._parts: dict[tuple[str, int], Event | None] = {}
        self._notes: dict[int, list[Any]] = {}

    @property
    def done(self) -> bool:
        return bool(self.whole)

    def feed(self, kind: str, event: Event) -> None:
        name, _, step = kind.rpartition(".")
        if kind == "response.output_text.annotation.added":
            notes = self._notes.setdefault(event["content_index"], [])
            assert event["annotation_index"] == len(notes)
            notes.append(event["annotation"])
        elif name in PARTS:
            self._feed_part(PARTS[name], step, event)
        elif name in TEXTS:
            index, field = TEXTS[name]
            place = (index, event[index])
            assert self._parts[place] is None, f"{kind} comes outside of its part"
            self._feed_text(place, step, event, field)
        elif name in CALLS:
            self._feed_text(("call", 0), step, event, CALLS[name])

    def end(self, item: Event) -> None:
        assert item.get("id") == self.identity
        assert item["type"] == self._kind
        assert all(part is not None for part in self._parts.values()), "a part has no end"
        self.whole = item
        for (index, number), part in self._parts.items():
            assert item["summary" if index == "summary_index" else "content"][number] == part
        if ("call", 0) in self._texts:
            told = self._texts[("call", 0)]
            assert told in (item.get("arguments"), item.get("input"), item.get("code"))

    def _feed_part(self, index: str, step: str, event: Event) -> None:
        place = (index, event[index])
        if step == "added":
            assert place not in self._parts, "a part begins twice"
            assert event[index] == sum(each == index for each, _ in self._parts)
            self._parts[place] = None
            return
        assert self._parts[place] is None, "a part ends twice"
        part = event["part"]
        self._parts[place] = part
        assert self._texts.get(place, "") == part.get("text", part.get("refusal"))
        if index == "content_index" and part["type"] == "output_text":
            assert part["annotations"] == self._notes.get(event[index], [])

    def _feed_text(self, place: tuple[str, int], step: str, event: Event, field: str) -> None:
        if step == "delta":
            self._texts[place] = self._texts.get(place, "") + event["delta"]
        else:
            assert step == "done"
            assert event[field] == self._texts.get(place, "") or place not in self._texts
            self._texts[place] = event[field]
