"""/v1/batches: the whole batch runs when it is read for the first time after its creation."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate_simulator import fields, files
from headgate_simulator.bounded_store import paginate
from headgate_simulator.memory import Memory, Object
from headgate_simulator.messages import ApiError, ApiRequest, ApiResponse, not_found
from headgate_simulator.seed import Seed

WINDOW_SECONDS = 86_400
_TIMES = (
    "in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at",
    "cancelling_at", "cancelled_at",
)  # fmt: skip


def create(request: ApiRequest, memory: Memory) -> ApiResponse:
    body = request.body
    fields.check("batches", body)
    files.find(memory, body["input_file_id"])
    info: Object = {
        "id": request.seed.make_id("batch_", memory.batches.count),
        "object": "batch",
        "endpoint": body["endpoint"],
        "errors": None,
        "input_file_id": body["input_file_id"],
        "completion_window": body["completion_window"],
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": request.seed.created,
        "expires_at": request.seed.created + WINDOW_SECONDS,
        **dict.fromkeys(_TIMES),
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": body.get("metadata"),
    }
    memory.batches.put(info["id"], info)
    return ApiResponse(dict(info))


def list_all(request: ApiRequest, memory: Memory) -> ApiResponse:
    return ApiResponse(paginate(memory.batches.all(), request.query))


def read(request: ApiRequest, memory: Memory) -> ApiResponse:
    info = _find(request, memory)
    if info["status"] == "validating":
        _run(info, memory)
    return ApiResponse(info)


def cancel(request: ApiRequest, memory: Memory) -> ApiResponse:
    info = _find(request, memory)
    if info["status"] == "validating":
        info.update(status="cancelled", cancelled_at=info["created_at"])
    return ApiResponse(info)


def _find(request: ApiRequest, memory: Memory) -> Object:
    info = memory.batches.get(request.ids[0])
    if info is None:
        raise not_found("batch", request.ids[0])
    return info


def _run(info: Object, memory: Memory) -> None:
    lines = files.find(memory, info["input_file_id"]).data.splitlines()
    rows = [_answer(line, info["endpoint"], memory) for line in lines if line.strip()]
    seed = Seed(info["id"].encode())
    good = [row for row in rows if row["response"]["status_code"] == 200]
    bad = [row for row in rows if row["response"]["status_code"] != 200]
    for field, some in (("output_file_id", good), ("error_file_id", bad)):
        if some:
            data = b"".join(msgspec.json.encode(row) + b"\n" for row in some)
            name = f"{info['id']}_{field.split('_')[0]}.jsonl"
            info[field] = files.store(memory, seed, name, "batch_output", data).info["id"]
    now = info["created_at"] + 60
    info.update(status="completed", in_progress_at=now, finalizing_at=now, completed_at=now)
    counts = {"total": len(rows), "completed": len(good), "failed": len(bad)}
    info["request_counts"] = counts


def _answer(line: bytes, endpoint: str, memory: Memory) -> dict[str, Any]:
    row: dict[str, Any] = {}
    try:
        row = msgspec.json.decode(line, type=dict[str, Any])
        # The output file holds whole answers only.
        body = {name: value for name, value in row["body"].items() if name != "stream"}
        request = ApiRequest(row.get("method", "POST"), endpoint, {}, body, Seed.of_body(body))
        status, answer = 200, getattr(memory.run(request), "payload", None)
    except ApiError as error:
        status, answer = error.status, {"error": error.error}
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, AttributeError):
        error = ApiError(400, "This line is not a request.")
        status, answer = 400, {"error": error.error}
    seed = Seed(line)
    identity = f"req_sim_{seed.hex}"
    return {
        "id": seed.make_id("batch_req_"),
        "custom_id": row.get("custom_id"),
        "response": {"status_code": status, "request_id": identity, "body": answer},
        "error": None,
    }
