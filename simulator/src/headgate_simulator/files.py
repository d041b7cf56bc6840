"""/v1/files and /v1/uploads, in bounded memory: the oldest file makes room for the newest."""

from __future__ import annotations

from headgate_simulator import fields
from headgate_simulator.bounded_store import paginate
from headgate_simulator.memory import Memory, Object, StoredFile
from headgate_simulator.messages import ApiError, ApiRequest, ApiResponse, invalid_value, not_found
from headgate_simulator.seed import Seed

UPLOAD_TTL_SECONDS = 3600


def create(request: ApiRequest, memory: Memory) -> ApiResponse:
    fields.check("files", request.body)
    upload = request.upload("file")
    stored = store(memory, request.seed, upload.filename, str(request.body["purpose"]), upload.data)
    return ApiResponse(stored.info)


def store(memory: Memory, seed: Seed, name: str, purpose: str, data: bytes) -> StoredFile:
    """Store a file. Its id follows from the content and from how many came before."""
    info: Object = {
        "id": seed.make_id("file-", memory.files.count),
        "object": "file",
        "bytes": len(data),
        "created_at": seed.created,
        "expires_at": None,
        "filename": name,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }
    stored = StoredFile(info, data)
    memory.files.put(info["id"], stored)
    return stored


def find(memory: Memory, identity: str) -> StoredFile:
    """Return the file, or raise OpenAI's 404."""
    stored = memory.files.get(identity)
    if stored is None:
        raise ApiError(404, f"No such File object: {identity}", param="id")
    return stored


def list_all(request: ApiRequest, memory: Memory) -> ApiResponse:
    wanted = request.query.get("purpose")
    infos = [stored.info for stored in memory.files.all()]
    found = [info for info in infos if wanted in (None, info["purpose"])]
    return ApiResponse(paginate(found, {"limit": "10000", **request.query}))


def read(request: ApiRequest, memory: Memory) -> ApiResponse:
    return ApiResponse(find(memory, request.ids[0]).info)


def read_content(request: ApiRequest, memory: Memory) -> ApiResponse:
    return ApiResponse(find(memory, request.ids[0]).data, "application/octet-stream")


def delete(request: ApiRequest, memory: Memory) -> ApiResponse:
    identity = find(memory, request.ids[0]).info["id"]
    memory.files.drop(identity)
    return ApiResponse({"id": identity, "object": "file", "deleted": True})


def begin_upload(request: ApiRequest, memory: Memory) -> ApiResponse:
    body = request.body
    fields.check("uploads", body)
    info: Object = {
        "id": request.seed.make_id("upload_", memory.uploads.count),
        "object": "upload",
        "bytes": body["bytes"],
        "created_at": request.seed.created,
        "expires_at": request.seed.created + UPLOAD_TTL_SECONDS,
        "filename": body["filename"],
        "purpose": body["purpose"],
        "status": "pending",
        "file": None,
    }
    memory.uploads.put(info["id"], info)
    return ApiResponse(info)


def add_part(request: ApiRequest, memory: Memory) -> ApiResponse:
    fields.check("uploads.parts", request.body)
    upload = _pending(request, memory)
    data = request.upload("data").data
    info: Object = {
        "id": request.seed.make_id("part_", memory.parts.count),
        "object": "upload.part",
        "created_at": request.seed.created,
        "upload_id": upload["id"],
    }
    memory.parts.put(info["id"], StoredFile(info, data))
    return ApiResponse(info)


def complete_upload(request: ApiRequest, memory: Memory) -> ApiResponse:
    """Join the parts in the given order into a file."""
    fields.check("uploads.complete", request.body)
    upload = _pending(request, memory)
    parts = [memory.parts.drop(identity) for identity in request.body["part_ids"]]
    data = b"".join(part.data for part in parts if part is not None)
    if None in parts or len(data) != upload["bytes"]:
        raise invalid_value("part_ids", "The parts do not make up the bytes that were announced.")
    stored = store(memory, Seed(data), upload["filename"], upload["purpose"], data)
    upload.update(status="completed", file=stored.info)
    return ApiResponse(upload)


def cancel_upload(request: ApiRequest, memory: Memory) -> ApiResponse:
    upload = _pending(request, memory)
    upload["status"] = "cancelled"
    return ApiResponse(upload)


def _pending(request: ApiRequest, memory: Memory) -> Object:
    upload = memory.uploads.get(request.ids[0])
    if upload is None:
        raise not_found("upload", request.ids[0])
    if upload["status"] != "pending":
        raise ApiError(400, f"Upload {upload['id']} is {upload['status']}.")
    return upload
