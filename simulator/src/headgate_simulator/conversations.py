"""/v1/conversations and their items."""

from __future__ import annotations

from headgate_simulator import fields, responses
from headgate_simulator.bounded_store import paginate
from headgate_simulator.memory import Memory, Object, StoredCollection
from headgate_simulator.messages import ApiError, ApiRequest, ApiResponse


def create(request: ApiRequest, memory: Memory) -> ApiResponse:
    fields.check("conversations", request.body)
    info: Object = {
        "id": request.seed.make_id("conv_", memory.conversations.count),
        "object": "conversation",
        "created_at": request.seed.created,
        "metadata": request.body.get("metadata") or {},
    }
    collection = StoredCollection(info, memory.settings)
    _add(request, collection)
    memory.conversations.put(info["id"], collection)
    return ApiResponse(info)


def read(request: ApiRequest, memory: Memory) -> ApiResponse:
    return ApiResponse(_find(request, memory).info)


def update(request: ApiRequest, memory: Memory) -> ApiResponse:
    fields.check("metadata", request.body)
    collection = _find(request, memory)
    collection.info["metadata"] = request.body["metadata"]
    return ApiResponse(collection.info)


def delete(request: ApiRequest, memory: Memory) -> ApiResponse:
    identity = _find(request, memory).info["id"]
    memory.conversations.drop(identity)
    return ApiResponse({"id": identity, "object": "conversation.deleted", "deleted": True})


def add_items(request: ApiRequest, memory: Memory) -> ApiResponse:
    fields.check("conversations.items", request.body)
    return ApiResponse(
        paginate(_add(request, _find(request, memory)), {"order": "asc", "limit": "100"})
    )


def list_items(request: ApiRequest, memory: Memory) -> ApiResponse:
    return ApiResponse(paginate(_find(request, memory).items.all(), request.query))


def read_item(request: ApiRequest, memory: Memory) -> ApiResponse:
    item = _find(request, memory).items.get(request.ids[1])
    if item is None:
        raise ApiError(404, f"Item with id '{request.ids[1]}' not found.")
    return ApiResponse(item)


def delete_item(request: ApiRequest, memory: Memory) -> ApiResponse:
    read_item(request, memory)
    collection = _find(request, memory)
    collection.items.drop(request.ids[1])
    return ApiResponse(collection.info)


def _add(request: ApiRequest, collection: StoredCollection) -> list[Object]:
    given: Object = {"input": request.body.get("items") or []}
    seed = request.seed.draw(collection.info["id"], collection.items.count)
    added = responses.input_items(ApiRequest("POST", request.path, {}, given, seed))
    for item in added:
        collection.items.put(item["id"], item)
    return added


def _find(request: ApiRequest, memory: Memory) -> StoredCollection:
    collection = memory.conversations.get(request.ids[0])
    if collection is None:
        raise ApiError(404, f"Conversation with id '{request.ids[0]}' not found.")
    return collection
