"""/v1/files and /v1/uploads, in bounded memory: the oldest file makes room for the newest."""

from __future__ import annotations

from headgate_simulator import fields
from headgate_simulator.exchange import Call, Refusal, Reply, absent, invalid
from headgate_simulator.memory import Memory, Object, StoredFile
from headgate_simulator.seed import Seed
from headgate_simulator.shelf import page

UPLOAD_TTL_SECONDS = 3600


def create(call: Call, memory: Memory) -> Reply:
    """POST /v1/files."""
    fields.check("files", call.body)
    upload = call.upload("file")
    kept = keep(memory, call.seed, upload.filename, str(call.body["purpose"]), upload.data)
    return Reply(kept.info)


def keep(memory: Memory, seed: Seed, name: str, purpose: str, data: bytes) -> StoredFile:
    """Put a file on the shelf. Its id follows from the content and from how many came before."""
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
    kept = StoredFile(info, data)
    memory.files.put(info["id"], kept)
    return kept


def find(memory: Memory, identity: str) -> StoredFile:
    """The file, or OpenAI's 404."""
    kept = memory.files.get(identity)
    if kept is None:
        raise Refusal(404, f"No such File object: {identity}", param="id")
    return kept


def listed(call: Call, memory: Memory) -> Reply:
    """GET /v1/files, of one `purpose` or all."""
    wanted = call.query.get("purpose")
    infos = [kept.info for kept in memory.files.all()]
    found = [info for info in infos if wanted in (None, info["purpose"])]
    return Reply(page(found, {"limit": "10000", **call.query}))


def read(call: Call, memory: Memory) -> Reply:
    """GET /v1/files/{id}."""
    return Reply(find(memory, call.ids[0]).info)


def read_content(call: Call, memory: Memory) -> Reply:
    """GET /v1/files/{id}/content."""
    return Reply(find(memory, call.ids[0]).data, "application/octet-stream")


def delete(call: Call, memory: Memory) -> Reply:
    """DELETE /v1/files/{id}."""
    identity = find(memory, call.ids[0]).info["id"]
    memory.files.drop(identity)
    return Reply({"id": identity, "object": "file", "deleted": True})


def begin_upload(call: Call, memory: Memory) -> Reply:
    """POST /v1/uploads."""
    body = call.body
    fields.check("uploads", body)
    info: Object = {
        "id": call.seed.make_id("upload_", memory.uploads.count),
        "object": "upload",
        "bytes": body["bytes"],
        "created_at": call.seed.created,
        "expires_at": call.seed.created + UPLOAD_TTL_SECONDS,
        "filename": body["filename"],
        "purpose": body["purpose"],
        "status": "pending",
        "file": None,
    }
    memory.uploads.put(info["id"], info)
    return Reply(info)


def add_part(call: Call, memory: Memory) -> Reply:
    """POST /v1/uploads/{id}/parts."""
    fields.check("uploads.parts", call.body)
    upload = _pending(call, memory)
    data = call.upload("data").data
    info: Object = {
        "id": call.seed.make_id("part_", memory.parts.count),
        "object": "upload.part",
        "created_at": call.seed.created,
        "upload_id": upload["id"],
    }
    memory.parts.put(info["id"], StoredFile(info, data))
    return Reply(info)


def complete_upload(call: Call, memory: Memory) -> Reply:
    """POST /v1/uploads/{id}/complete: the parts, in the given order, become a file."""
    fields.check("uploads.complete", call.body)
    upload = _pending(call, memory)
    parts = [memory.parts.drop(identity) for identity in call.body["part_ids"]]
    data = b"".join(part.data for part in parts if part is not None)
    if None in parts or len(data) != upload["bytes"]:
        raise invalid("part_ids", "The parts do not make up the bytes that were announced.")
    kept = keep(memory, Seed(data), upload["filename"], upload["purpose"], data)
    upload.update(status="completed", file=kept.info)
    return Reply(upload)


def cancel_upload(call: Call, memory: Memory) -> Reply:
    """POST /v1/uploads/{id}/cancel."""
    upload = _pending(call, memory)
    upload["status"] = "cancelled"
    return Reply(upload)


def _pending(call: Call, memory: Memory) -> Object:
    upload = memory.uploads.get(call.ids[0])
    if upload is None:
        raise absent("upload", call.ids[0])
    if upload["status"] != "pending":
        raise Refusal(400, f"Upload {upload['id']} is {upload['status']}.")
    return upload
