"""/v1/conversations and their items."""

from __future__ import annotations

from headgate_simulator import fields, responses
from headgate_simulator.exchange import Call, Refusal, Reply
from headgate_simulator.memory import Folder, Memory, Object
from headgate_simulator.shelf import page


def create(call: Call, memory: Memory) -> Reply:
    """POST /v1/conversations."""
    fields.check("conversations", call.body)
    info: Object = {
        "id": call.seed.make_id("conv_", memory.conversations.count),
        "object": "conversation",
        "created_at": call.seed.created,
        "metadata": call.body.get("metadata") or {},
    }
    folder = Folder(info, memory.settings)
    _add(call, folder)
    memory.conversations.put(info["id"], folder)
    return Reply(info)


def read(call: Call, memory: Memory) -> Reply:
    """GET /v1/conversations/{id}."""
    return Reply(_find(call, memory).info)


def change(call: Call, memory: Memory) -> Reply:
    """POST /v1/conversations/{id}."""
    fields.check("metadata", call.body)
    folder = _find(call, memory)
    folder.info["metadata"] = call.body["metadata"]
    return Reply(folder.info)


def delete(call: Call, memory: Memory) -> Reply:
    """DELETE /v1/conversations/{id}."""
    identity = _find(call, memory).info["id"]
    memory.conversations.drop(identity)
    return Reply({"id": identity, "object": "conversation.deleted", "deleted": True})


def add_items(call: Call, memory: Memory) -> Reply:
    """POST /v1/conversations/{id}/items."""
    fields.check("conversations.items", call.body)
    return Reply(page(_add(call, _find(call, memory)), {"order": "asc", "limit": "100"}))


def list_items(call: Call, memory: Memory) -> Reply:
    """GET /v1/conversations/{id}/items."""
    return Reply(page(_find(call, memory).items.all(), call.query))


def read_item(call: Call, memory: Memory) -> Reply:
    """GET /v1/conversations/{id}/items/{item}."""
    item = _find(call, memory).items.get(call.ids[1])
    if item is None:
        raise Refusal(404, f"Item with id '{call.ids[1]}' not found.")
    return Reply(item)


def delete_item(call: Call, memory: Memory) -> Reply:
    """DELETE /v1/conversations/{id}/items/{item}."""
    read_item(call, memory)
    folder = _find(call, memory)
    folder.items.drop(call.ids[1])
    return Reply(folder.info)


def _add(call: Call, folder: Folder) -> list[Object]:
    given: Object = {"input": call.body.get("items") or []}
    seed = call.seed.draw(folder.info["id"], folder.items.count)
    added = responses.input_items(Call("POST", call.path, {}, given, seed))
    for item in added:
        folder.items.put(item["id"], item)
    return added


def _find(call: Call, memory: Memory) -> Folder:
    folder = memory.conversations.get(call.ids[0])
    if folder is None:
        raise Refusal(404, f"Conversation with id '{call.ids[0]}' not found.")
    return folder
