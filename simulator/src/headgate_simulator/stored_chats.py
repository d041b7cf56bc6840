"""Chat completions stored with `store: true`: list, read, change their metadata, delete."""

from __future__ import annotations

from typing import Any

from headgate_simulator import fields
from headgate_simulator.bounded_store import paginate
from headgate_simulator.memory import Memory, StoredAnswer
from headgate_simulator.messages import ApiRequest, ApiResponse, not_found


def list_all(request: ApiRequest, memory: Memory) -> ApiResponse:
    """Return a page, oldest first; `model` and `metadata[key]` of the query filter."""
    wanted = {
        name[len("metadata[") : -1]: value
        for name, value in request.query.items()
        if name.startswith("metadata[")
    }
    model = request.query.get("model")
    found = [
        stored.answer
        for stored in memory.chats.all()
        if model in (None, stored.answer["model"])
        and wanted.items() <= stored.answer["metadata"].items()
    ]
    return ApiResponse(paginate(found, {"order": "asc", **request.query}))


def read(request: ApiRequest, memory: Memory) -> ApiResponse:
    return ApiResponse(_find(request, memory).answer)


def update(request: ApiRequest, memory: Memory) -> ApiResponse:
    fields.check("metadata", request.body)
    stored = _find(request, memory)
    stored.answer["metadata"] = request.body["metadata"]
    return ApiResponse(stored.answer)


def delete(request: ApiRequest, memory: Memory) -> ApiResponse:
    identity = _find(request, memory).answer["id"]
    memory.chats.drop(identity)
    return ApiResponse({"id": identity, "object": "chat.completion.deleted", "deleted": True})


def list_messages(request: ApiRequest, memory: Memory) -> ApiResponse:
    stored = _find(request, memory)
    rows: list[dict[str, Any]] = [
        {"id": f"{stored.answer['id']}-{index}", "name": None, "content_parts": None, **message}
        for index, message in enumerate(stored.inputs)
    ]
    return ApiResponse(paginate(rows, {"order": "asc", **request.query}))


def _find(request: ApiRequest, memory: Memory) -> StoredAnswer:
    stored = memory.chats.get(request.ids[0])
    if stored is None:
        raise not_found("chat completion", request.ids[0])
    return stored
