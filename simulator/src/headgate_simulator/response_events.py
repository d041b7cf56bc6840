"""A response as its events: created, in progress, every item step by step, its end.

The events follow from the finished response alone, so that a stored one streams the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from headgate_simulator import tokens
from headgate_simulator.content import Item
from headgate_simulator.messages import Frame

Event = dict[str, Any]

_ENDS = {"incomplete": "response.incomplete", "failed": "response.failed"}


def frames(response: Item, *, after: int = -1, obfuscated: bool = True) -> Iterator[Frame]:
    """Yield the numbered events that follow number `after`."""
    for number, event in enumerate(_events(response)):
        if number <= after:
            continue
        kind = event.pop("type")
        padding = {"obfuscation": "simulator"} if obfuscated and kind.endswith(".delta") else {}
        yield kind, {"type": kind, "sequence_number": number, **event, **padding}


def empty(response: Item, status: str) -> Item:
    """Return a response as it is while it runs."""
    return {
        **response,
        "status": status,
        "output": [],
        "usage": None,
        "completed_at": None,
        "incomplete_details": None,
    }


def _events(response: Item) -> Iterator[Event]:
    begun = empty(response, "in_progress")
    if response["background"]:
        queued = {**begun, "status": "queued"}
        yield {"type": "response.created", "response": queued}
        yield {"type": "response.queued", "response": queued}
    else:
        yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response["output"]):
        begin, steps = _STEPS[item["type"]]
        place = {"item_id": item["id"], "output_index": index}
        yield {"type": "response.output_item.added", "output_index": index, "item": begin(item)}
        for step in steps(item):
            yield {**step, **place}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": _ENDS.get(response["status"], "response.completed"), "response": response}


def _in_progress(**emptied: Any) -> Callable[[Item], Item]:
    return lambda item: {**item, "status": "in_progress", **emptied}


def _reasoning(item: Item) -> Iterator[Event]:
    for index, part in enumerate(item["summary"]):
        place = {"summary_index": index}
        empty = {**part, "text": ""}
        yield {"type": "response.reasoning_summary_part.added", "part": empty, **place}
        for token in tokens.split(part["text"]):
            yield {"type": "response.reasoning_summary_text.delta", "delta": token, **place}
        yield {"type": "response.reasoning_summary_text.done", "text": part["text"], **place}
        yield {"type": "response.reasoning_summary_part.done", "part": part, **place}


def _message(item: Item) -> Iterator[Event]:
    for index, part in enumerate(item["content"]):
        place = {"content_index": index}
        empty: Item = {**part, "annotations": []} if "annotations" in part else dict(part)
        field = "text" if "text" in part else "refusal"
        empty[field] = ""
        name = "response.output_text" if field == "text" else "response.refusal"
        logprobs: Item = {"logprobs": []} if field == "text" else {}
        yield {"type": "response.content_part.added", "part": empty, **place}
        for token in tokens.split(part[field]):
            yield {"type": f"{name}.delta", "delta": token, **logprobs, **place}
        yield {"type": f"{name}.done", field: part[field], **logprobs, **place}
        for number, annotation in enumerate(part.get("annotations", ())):
            kind = "response.output_text.annotation.added"
            cited = {"annotation_index": number, "annotation": annotation}
            yield {"type": kind, **cited, **place}
        yield {"type": "response.content_part.done", "part": part, **place}


def _given(kind: str, field: str) -> Callable[[Item], Iterator[Event]]:
    def steps(item: Item) -> Iterator[Event]:
        for token in tokens.split(item[field]):
            yield {"type": f"{kind}.delta", "delta": token}
        named = {"name": item["name"]} if field == "arguments" else {}
        yield {"type": f"{kind}.done", field: item[field], **named}

    return steps


def _phases(kind: str, *names: str) -> Callable[[Item], Iterator[Event]]:
    return lambda _: iter([{"type": f"response.{kind}.{name}"} for name in names])


def _image(item: Item) -> Iterator[Event]:
    kind = "response.image_generation_call"
    yield {"type": f"{kind}.in_progress"}
    yield {"type": f"{kind}.generating"}
    partial = {"partial_image_index": 0, "partial_image_b64": item["result"]}
    looks = {name: item[name] for name in ("background", "output_format", "quality", "size")}
    yield {"type": f"{kind}.partial_image", **partial, **looks}
    yield {"type": f"{kind}.completed"}


def _code(item: Item) -> Iterator[Event]:
    kind = "response.code_interpreter_call"
    yield {"type": f"{kind}.in_progress"}
    for token in tokens.split(item["code"]):
        yield {"type": f"{kind}_code.delta", "delta": token}
    yield {"type": f"{kind}_code.done", "code": item["code"]}
    yield {"type": f"{kind}.interpreting"}
    yield {"type": f"{kind}.completed"}


_SEARCHING = ("in_progress", "searching", "completed")
_STEPS: dict[str, tuple[Callable[[Item], Item], Callable[[Item], Iterator[Event]]]] = {
    "reasoning": (lambda item: {**item, "summary": []}, _reasoning),
    "message": (_in_progress(content=[]), _message),
    "function_call": (
        _in_progress(arguments=""),
        _given("response.function_call_arguments", "arguments"),
    ),
    "custom_tool_call": (
        _in_progress(input=""),
        _given("response.custom_tool_call_input", "input"),
    ),
    "web_search_call": (_in_progress(), _phases("web_search_call", *_SEARCHING)),
    "file_search_call": (_in_progress(), _phases("file_search_call", *_SEARCHING)),
    "image_generation_call": (_in_progress(result=None), _image),
    "code_interpreter_call": (_in_progress(code="", outputs=None), _code),
}
