"""Streams of the Responses API, made from whole responses as OpenAI makes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Event = dict[str, Any]


def make_response(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": "resp_abc",
        "object": "response",
        "status": "completed",
        "model": "gpt-5.4-mini-2026",
        "output": list(output),
        "incomplete_details": None,
        "service_tier": "default",
        "usage": {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 30},
            "output_tokens": 50,
            "output_tokens_details": {"reasoning_tokens": 20},
            "total_tokens": 150,
        },
        **fields,
    }


def make_text(text: str, **fields: Any) -> dict[str, Any]:
    part: Event = {"type": "output_text", "text": text, "annotations": [], **fields}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}


def make_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{call_id}",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": "completed",
    }


def make_reasoning(*summary: str, encrypted: str | None = "gAAA=") -> dict[str, Any]:
    return {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": text} for text in summary],
        "encrypted_content": encrypted,
    }


def make_events(response: dict[str, Any], size: int = 3) -> Iterator[Event]:
    """Yield the events of a response, with texts in pieces of a size."""
    begun: Event = {**response, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for number, item in enumerate(response["output"]):
        yield from make_item_events(number, item, size)
    kind = "incomplete" if response["status"] == "incomplete" else "completed"
    yield {"type": f"response.{kind}", "response": response}


def make_item_events(number: int, item: dict[str, Any], size: int = 3) -> Iterator[Event]:
    place = {"output_index": number, "item_id": item["id"]}
    blank: Event = {"content": [], "summary": [], "arguments": ""}
    empty = {name: blank.get(name, value) for name, value in item.items()}
    yield {"type": "response.output_item.added", "output_index": number, "item": empty}
    for index, part in enumerate(item.get("content", ())):
        name = "refusal" if part["type"] == "refusal" else "output_text"
        text = part.get("text") or part.get("refusal")
        at = {**place, "content_index": index}
        yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
        for piece in cut(text, size):
            yield {"type": f"response.{name}.delta", **at, "delta": piece}
        for annotation in part.get("annotations", ()):
            yield {
                "type": "response.output_text.annotation.added",
                **at,
                "annotation": annotation,
            }
        yield {"type": f"response.{name}.done", **at, "text": text}
        yield {"type": "response.content_part.done", **at, "part": part}
    for index, part in enumerate(item.get("summary", ())):
        at = {**place, "summary_index": index}
        yield {"type": "response.reasoning_summary_part.added", **at, "part": {}}
        for piece in cut(part["text"], size):
            yield {"type": "response.reasoning_summary_text.delta", **at, "delta": piece}
        yield {"type": "response.reasoning_summary_part.done", **at, "part": part}
    if "arguments" in item:
        for piece in cut(item["arguments"], size):
            yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
        yield {
            "type": "response.function_call_arguments.done",
            **place,
            "arguments": item["arguments"],
        }
    yield {"type": "response.output_item.done", "output_index": number, "item": item}


def cut(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))
