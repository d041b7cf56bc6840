"""/v1/vector_stores: stores, their files, and a search that looks for the words of the query."""

from __future__ import annotations

from typing import Any

from headgate_simulator import content, fields, files
from headgate_simulator.exchange import Call, Reply, absent
from headgate_simulator.memory import Folder, Memory, Object
from headgate_simulator.seed import Seed
from headgate_simulator.shelf import page

EXCERPT_CHARACTERS = 1000
_CHUNKING = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400},
}


def create(call: Call, memory: Memory) -> Reply:
    """POST /v1/vector_stores."""
    body = call.body
    fields.check("vector_stores", body)
    info: Object = {
        "id": call.seed.make_id("vs_", memory.vector_stores.count),
        "object": "vector_store",
        "created_at": call.seed.created,
        "name": body.get("name") or "",
        "description": body.get("description"),
        "status": "completed",
        "usage_bytes": 0,
        "file_counts": {},
        "metadata": body.get("metadata") or {},
        "expires_after": body.get("expires_after"),
        "expires_at": None,
        "last_active_at": call.seed.created,
    }
    folder = Folder(info, memory.settings)
    for identity in body.get("file_ids") or ():
        _attach(folder, identity, memory, {})
    memory.vector_stores.put(info["id"], folder)
    return Reply(_info(folder))


def listed(call: Call, memory: Memory) -> Reply:
    """GET /v1/vector_stores."""
    return Reply(page(map(_info, memory.vector_stores.all()), call.query))


def read(call: Call, memory: Memory) -> Reply:
    """GET /v1/vector_stores/{id}."""
    return Reply(_info(_find(call, memory)))


def change(call: Call, memory: Memory) -> Reply:
    """POST /v1/vector_stores/{id}."""
    fields.check("vector_stores", call.body)
    folder = _find(call, memory)
    folder.info.update(call.body)
    return Reply(_info(folder))


def delete(call: Call, memory: Memory) -> Reply:
    """DELETE /v1/vector_stores/{id}."""
    identity = _find(call, memory).info["id"]
    memory.vector_stores.drop(identity)
    return Reply({"id": identity, "object": "vector_store.deleted", "deleted": True})


def search(call: Call, memory: Memory) -> Reply:
    """POST /v1/vector_stores/{id}/search: the share of the query's words that a file holds."""
    body = call.body
    fields.check("vector_stores.search", body)
    asked = body["query"]
    queries = [asked] if isinstance(asked, str) else asked
    found = [_score(row, " ".join(queries), memory) for row in _find(call, memory).items.all()]
    found = [hit for hit in found if hit["score"] > 0]
    found.sort(key=lambda hit: -hit["score"])
    kept = found[: body.get("max_num_results") or 10]
    answer = {"object": "vector_store.search_results.page", "search_query": queries}
    return Reply({**answer, "data": kept, "has_more": False, "next_page": None})


def _score(row: Object, query: str, memory: Memory) -> dict[str, Any]:
    kept = memory.files.get(row["id"])
    text = kept.data.decode("utf-8", "replace") if kept else ""
    words = set(query.lower().split())
    hits = sum(word in text.lower() for word in words)
    return {
        "file_id": row["id"],
        "filename": kept.info["filename"] if kept else "",
        "score": hits / len(words) if words else 0.0,
        "attributes": row["attributes"],
        "content": [{"type": "text", "text": text[:EXCERPT_CHARACTERS]}],
    }


def attach(call: Call, memory: Memory) -> Reply:
    """POST /v1/vector_stores/{id}/files."""
    fields.check("vector_stores.files", call.body)
    folder = _find(call, memory)
    given = content.record(call.body.get("attributes"))
    return Reply(_attach(folder, call.body["file_id"], memory, given))


def list_files(call: Call, memory: Memory) -> Reply:
    """GET /v1/vector_stores/{id}/files, and the files of a batch."""
    return Reply(page(_find(call, memory).items.all(), call.query))


def read_file(call: Call, memory: Memory) -> Reply:
    """GET /v1/vector_stores/{id}/files/{file}."""
    return Reply(_find_file(call, memory))


def read_file_content(call: Call, memory: Memory) -> Reply:
    """GET /v1/vector_stores/{id}/files/{file}/content."""
    identity = _find_file(call, memory)["id"]
    text = files.find(memory, identity).data.decode("utf-8", "replace")
    answer = {"object": "vector_store.file_content.page", "has_more": False, "next_page": None}
    return Reply({**answer, "data": [{"type": "text", "text": text}]})


def detach(call: Call, memory: Memory) -> Reply:
    """DELETE /v1/vector_stores/{id}/files/{file}."""
    identity = _find_file(call, memory)["id"]
    _find(call, memory).items.drop(identity)
    return Reply({"id": identity, "object": "vector_store.file.deleted", "deleted": True})


def attach_batch(call: Call, memory: Memory) -> Reply:
    """POST /v1/vector_stores/{id}/file_batches: done at once, so its id needs no memory."""
    fields.check("vector_stores.file_batches", call.body)
    folder = _find(call, memory)
    ids = content.strings(call.body.get("file_ids"))
    given = content.rows(call.body.get("files")) or [{"file_id": each} for each in ids]
    for row in given:
        _attach(folder, row["file_id"], memory, content.record(row.get("attributes")))
    return Reply(_batch(folder, call.seed.make_id("vsfb_"), len(given)))


def read_batch(call: Call, memory: Memory) -> Reply:
    """GET /v1/vector_stores/{id}/file_batches/{batch}: completed, with the store's files."""
    folder = _find(call, memory)
    return Reply(_batch(folder, call.ids[1], len(folder.items.all())))


def _find(call: Call, memory: Memory) -> Folder:
    folder = memory.vector_stores.get(call.ids[0])
    if folder is None:
        raise absent("vector store", call.ids[0])
    return folder


def _find_file(call: Call, memory: Memory) -> Object:
    row = _find(call, memory).items.get(call.ids[1])
    if row is None:
        raise absent("file", call.ids[1])
    return row


def _attach(folder: Folder, identity: str, memory: Memory, attributes: Object) -> Object:
    kept = files.find(memory, identity)
    row: Object = {
        "id": identity,
        "object": "vector_store.file",
        "created_at": Seed(identity.encode()).created,
        "vector_store_id": folder.info["id"],
        "status": "completed",
        "last_error": None,
        "usage_bytes": len(kept.data),
        "attributes": attributes,
        "chunking_strategy": _CHUNKING,
    }
    folder.items.put(identity, row)
    return row


def _counts(total: int) -> dict[str, int]:
    return {"in_progress": 0, "completed": total, "failed": 0, "cancelled": 0, "total": total}


def _info(folder: Folder) -> Object:
    rows = folder.items.all()
    used = sum(row["usage_bytes"] for row in rows)
    return {**folder.info, "usage_bytes": used, "file_counts": _counts(len(rows))}


def _batch(folder: Folder, identity: str, total: int) -> Object:
    return {
        "id": identity,
        "object": "vector_store.files_batch",
        "created_at": folder.info["created_at"],
        "vector_store_id": folder.info["id"],
        "status": "completed",
        "file_counts": _counts(total),
    }
