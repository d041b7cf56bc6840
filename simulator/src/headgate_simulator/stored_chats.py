"""Chats kept with `store: true`: list, read, change their metadata, delete."""

from __future__ import annotations

from typing import Any

from headgate_simulator import fields
from headgate_simulator.exchange import Call, Reply, absent
from headgate_simulator.memory import Kept, Memory
from headgate_simulator.shelf import page


def listed(call: Call, memory: Memory) -> Reply:
    """GET /v1/chat/completions, oldest first; `model` and `metadata[key]` filter."""
    wanted = {
        name[len("metadata[") : -1]: value
        for name, value in call.query.items()
        if name.startswith("metadata[")
    }
    model = call.query.get("model")
    found = [
        kept.answer
        for kept in memory.chats.all()
        if model in (None, kept.answer["model"])
        and wanted.items() <= kept.answer["metadata"].items()
    ]
    return Reply(page(found, {"order": "asc", **call.query}))


def read(call: Call, memory: Memory) -> Reply:
    """GET /v1/chat/completions/{id}."""
    return Reply(_find(call, memory).answer)


def change(call: Call, memory: Memory) -> Reply:
    """POST /v1/chat/completions/{id}."""
    fields.check("metadata", call.body)
    kept = _find(call, memory)
    kept.answer["metadata"] = call.body["metadata"]
    return Reply(kept.answer)


def delete(call: Call, memory: Memory) -> Reply:
    """DELETE /v1/chat/completions/{id}."""
    identity = _find(call, memory).answer["id"]
    memory.chats.drop(identity)
    return Reply({"id": identity, "object": "chat.completion.deleted", "deleted": True})


def messages(call: Call, memory: Memory) -> Reply:
    """GET /v1/chat/completions/{id}/messages."""
    kept = _find(call, memory)
    rows: list[dict[str, Any]] = [
        {"id": f"{kept.answer['id']}-{index}", "name": None, "content_parts": None, **message}
        for index, message in enumerate(kept.inputs)
    ]
    return Reply(page(rows, {"order": "asc", **call.query}))


def _find(call: Call, memory: Memory) -> Kept:
    kept = memory.chats.get(call.ids[0])
    if kept is None:
        raise absent("chat completion", call.ids[0])
    return kept
