"""/v1/vector_stores: stores, their files, and a search for the words of the query."""

from __future__ import annotations

from typing import Any

from headgate_simulator import content, fields, files
from headgate_simulator.bounded_store import paginate
from headgate_simulator.memory import Memory, Object, StoredCollection
from headgate_simulator.messages import ApiRequest, ApiResponse, not_found
from headgate_simulator.seed import Seed

EXCERPT_CHARACTERS = 1000
_CHUNKING = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400},
}


def create(request: ApiRequest, memory: Memory) -> ApiResponse:
    body = request.body
    fields.check("vector_stores", body)
    info: Object = {
        "id": request.seed.make_id("vs_", memory.vector_stores.count),
        "object": "vector_store",
        "created_at": request.seed.created,
        "name": body.get("name") or "",
        "description": body.get("description"),
        "status": "completed",
        "usage_bytes": 0,
        "file_counts": {},
        "metadata": body.get("metadata") or {},
        "expires_after": body.get("expires_after"),
        "expires_at": None,
        "last_active_at": request.seed.created,
    }
    collection = StoredCollection(info, memory.settings)
    for identity in body.get("file_ids") or ():
        _attach(collection, identity, memory, {})
    memory.vector_stores.put(info["id"], collection)
    return ApiResponse(_info(collection))


def list_all(request: ApiRequest, memory: Memory) -> ApiResponse:
    return ApiResponse(paginate(map(_info, memory.vector_stores.all()), request.query))


def read(request: ApiRequest, memory: Memory) -> ApiResponse:
    return ApiResponse(_info(_find(request, memory)))


def update(request: ApiRequest, memory: Memory) -> ApiResponse:
    fields.check("vector_stores", request.body)
    collection = _find(request, memory)
    collection.info.update(request.body)
    return ApiResponse(_info(collection))


def delete(request: ApiRequest, memory: Memory) -> ApiResponse:
    identity = _find(request, memory).info["id"]
    memory.vector_stores.drop(identity)
    return ApiResponse({"id": identity, "object": "vector_store.deleted", "deleted": True})


def search(request: ApiRequest, memory: Memory) -> ApiResponse:
    """Score each file by the share of the query's words that it has."""
    body = request.body
    fields.check("vector_stores.search", body)
    asked = body["query"]
    queries = [asked] if isinstance(asked, str) else asked
    found = [_score(row, " ".join(queries), memory) for row in _find(request, memory).items.all()]
    found = [hit for hit in found if hit["score"] > 0]
    found.sort(key=lambda hit: -hit["score"])
    hits = found[: body.get("max_num_results") or 10]
    answer = {"object": "vector_store.search_results.page", "search_query": queries}
    return ApiResponse({**answer, "data": hits, "has_more": False, "next_page": None})


def _score(row: Object, query: str, memory: Memory) -> dict[str, Any]:
    stored = memory.files.get(row["id"])
    text = stored.data.decode("utf-8", "replace") if stored else ""
    words = set(query.lower().split())
    hits = sum(word in text.lower() for word in words)
    return {
        "file_id": row["id"],
        "filename": stored.info["filename"] if stored else "",
        "score": hits / len(words) if words else 0.0,
        "attributes": row["attributes"],
        "content": [{"type": "text", "text": text[:EXCERPT_CHARACTERS]}],
    }


def attach(request: ApiRequest, memory: Memory) -> ApiResponse:
    fields.check("vector_stores.files", request.body)
    collection = _find(request, memory)
    given = content.record(request.body.get("attributes"))
    return ApiResponse(_attach(collection, request.body["file_id"], memory, given))


def list_files(request: ApiRequest, memory: Memory) -> ApiResponse:
    """Return the files of a store; the files of a batch are those of its store."""
    return ApiResponse(paginate(_find(request, memory).items.all(), request.query))


def read_file(request: ApiRequest, memory: Memory) -> ApiResponse:
    return ApiResponse(_find_file(request, memory))


def read_file_content(request: ApiRequest, memory: Memory) -> ApiResponse:
    identity = _find_file(request, memory)["id"]
    text = files.find(memory, identity).data.decode("utf-8", "replace")
    answer = {"object": "vector_store.file_content.page", "has_more": False, "next_page": None}
    return ApiResponse({**answer, "data": [{"type": "text", "text": text}]})


def detach(request: ApiRequest, memory: Memory) -> ApiResponse:
    identity = _find_file(request, memory)["id"]
    _find(request, memory).items.drop(identity)
    return ApiResponse({"id": identity, "object": "vector_store.file.deleted", "deleted": True})


def attach_batch(request: ApiRequest, memory: Memory) -> ApiResponse:
    """Attach all files at once, so that the batch's id needs no memory."""
    fields.check("vector_stores.file_batches", request.body)
    collection = _find(request, memory)
    ids = content.strings(request.body.get("file_ids"))
    given = content.rows(request.body.get("files")) or [{"file_id": each} for each in ids]
    for row in given:
        _attach(collection, row["file_id"], memory, content.record(row.get("attributes")))
    return ApiResponse(_batch(collection, request.seed.make_id("vsfb_"), len(given)))


def read_batch(request: ApiRequest, memory: Memory) -> ApiResponse:
    """Return the batch as completed, with the files of its store."""
    collection = _find(request, memory)
    return ApiResponse(_batch(collection, request.ids[1], len(collection.items.all())))


def _find(request: ApiRequest, memory: Memory) -> StoredCollection:
    collection = memory.vector_stores.get(request.ids[0])
    if collection is None:
        raise not_found("vector store", request.ids[0])
    return collection


def _find_file(request: ApiRequest, memory: Memory) -> Object:
    row = _find(request, memory).items.get(request.ids[1])
    if row is None:
        raise not_found("file", request.ids[1])
    return row


def _attach(
    collection: StoredCollection, identity: str, memory: Memory, attributes: Object
) -> Object:
    stored = files.find(memory, identity)
    row: Object = {
        "id": identity,
        "object": "vector_store.file",
        "created_at": Seed(identity.encode()).created,
        "vector_store_id": collection.info["id"],
        "status": "completed",
        "last_error": None,
        "usage_bytes": len(stored.data),
        "attributes": attributes,
        "chunking_strategy": _CHUNKING,
    }
    collection.items.put(identity, row)
    return row


def _counts(total: int) -> dict[str, int]:
    return {"in_progress": 0, "completed": total, "failed": 0, "cancelled": 0, "total": total}


def _info(collection: StoredCollection) -> Object:
    rows = collection.items.all()
    used = sum(row["usage_bytes"] for row in rows)
    return {**collection.info, "usage_bytes": used, "file_counts": _counts(len(rows))}


def _batch(collection: StoredCollection, identity: str, total: int) -> Object:
    return {
        "id": identity,
        "object": "vector_store.files_batch",
        "created_at": collection.info["created_at"],
        "vector_store_id": collection.info["id"],
        "status": "completed",
        "file_counts": _counts(total),
    }
