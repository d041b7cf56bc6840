"""Stored responses: read, stream again, cancel, delete; and compact, count."""

from __future__ import annotations

from headgate_simulator import fields, media, response_events, responses
from headgate_simulator.bounded_store import paginate
from headgate_simulator.memory import Memory, StoredAnswer
from headgate_simulator.messages import ApiError, ApiRequest, ApiResponse, EventStream

_COMPACTED_TOKENS = 32
_SETTLED = ("completed", "incomplete", "cancelled")


def read(request: ApiRequest, memory: Memory) -> ApiResponse | EventStream:
    """Return the response; `stream=true` sends its events after `starting_after`.

    Reading a background response is what completes it, once its time is over.
    """
    stored = _find(request, memory)
    if stored.answer["status"] not in _SETTLED:
        if memory.monotonic() < stored.done_at:
            return ApiResponse(response_events.empty(stored.answer, "in_progress"))
        cut = stored.answer["incomplete_details"] is not None
        stored.answer["status"] = "incomplete" if cut else "completed"
    if request.query.get("stream") == "true":
        after = int(request.query.get("starting_after", "-1"))
        shown = request.query.get("include_obfuscation") != "false"
        return EventStream(response_events.frames(stored.answer, after=after, obfuscated=shown))
    return ApiResponse(stored.answer)


def delete(request: ApiRequest, memory: Memory) -> ApiResponse:
    identity = _find(request, memory).answer["id"]
    memory.responses.drop(identity)
    return ApiResponse({"id": identity, "object": "response", "deleted": True})


def cancel(request: ApiRequest, memory: Memory) -> ApiResponse:
    """Cancel a background response; others are refused."""
    stored = _find(request, memory)
    if not stored.answer["background"]:
        raise ApiError(400, "Cannot cancel a synchronous response.")
    if stored.answer["status"] not in _SETTLED:
        stored.answer.update(status="cancelled", output=[], completed_at=None)
        stored.answer["usage"] = None
    return ApiResponse(stored.answer)


def inputs(request: ApiRequest, memory: Memory) -> ApiResponse:
    return ApiResponse(paginate(_find(request, memory).inputs, request.query))


def compact(request: ApiRequest, _memory: Memory) -> ApiResponse:
    """Return the user's messages, and one opaque item for the rest."""
    fields.check("responses.compact", request.body)
    given = responses.input_items(request)
    seed = request.seed
    cipher = media.encode_base64(seed.draw("compacted").stretch(_COMPACTED_TOKENS * 4))
    opaque = {"id": seed.make_id("cmp_"), "type": "compaction", "encrypted_content": cipher}
    retained = [item for item in given if item.get("role") == "user"]
    used = responses.count_input(request.body, given)
    answer = {
        "id": seed.make_id("resp_"),
        "object": "response.compaction",
        "created_at": seed.created,
        "output": [*retained, opaque],
        "usage": responses.usage(request.body, used, _COMPACTED_TOKENS),
    }
    return ApiResponse(answer, tokens=used)


def count(request: ApiRequest, _memory: Memory) -> ApiResponse:
    fields.check("responses.input_tokens", request.body)
    used = responses.count_input(request.body, responses.input_items(request))
    return ApiResponse({"object": "response.input_tokens", "input_tokens": used})


def _find(request: ApiRequest, memory: Memory) -> StoredAnswer:
    stored = memory.responses.get(request.ids[0])
    if stored is None:
        message = f"Response with id '{request.ids[0]}' not found."
        raise ApiError(404, message)
    return stored
