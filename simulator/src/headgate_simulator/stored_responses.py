"""Responses after they were made: read, stream again, cancel, delete, compact, count."""

from __future__ import annotations

from headgate_simulator import fields, media, response_events, responses
from headgate_simulator.exchange import Call, Refusal, Reply, Stream
from headgate_simulator.memory import Kept, Memory
from headgate_simulator.shelf import page

_COMPACTED_TOKENS = 32
_SETTLED = ("completed", "incomplete", "cancelled")


def read(call: Call, memory: Memory) -> Reply | Stream:
    """GET /v1/responses/{id}; `stream=true` sends its events, after `starting_after`.

    Reading a background response is what completes it.
    """
    kept = _find(call, memory)
    if kept.answer["status"] not in _SETTLED:
        cut = kept.answer["incomplete_details"] is not None
        kept.answer["status"] = "incomplete" if cut else "completed"
    if call.query.get("stream") == "true":
        after = int(call.query.get("starting_after", "-1"))
        shown = call.query.get("include_obfuscation") != "false"
        return Stream(response_events.frames(kept.answer, after=after, obfuscated=shown))
    return Reply(kept.answer)


def delete(call: Call, memory: Memory) -> Reply:
    """DELETE /v1/responses/{id}."""
    identity = _find(call, memory).answer["id"]
    memory.responses.drop(identity)
    return Reply({"id": identity, "object": "response", "deleted": True})


def cancel(call: Call, memory: Memory) -> Reply:
    """POST /v1/responses/{id}/cancel, for background responses only."""
    kept = _find(call, memory)
    if not kept.answer["background"]:
        raise Refusal(400, "Cannot cancel a synchronous response.")
    if kept.answer["status"] not in _SETTLED:
        kept.answer.update(status="cancelled", output=[], completed_at=None)
        kept.answer["usage"] = None
    return Reply(kept.answer)


def inputs(call: Call, memory: Memory) -> Reply:
    """GET /v1/responses/{id}/input_items."""
    return Reply(page(_find(call, memory).inputs, call.query))


def compact(call: Call, _memory: Memory) -> Reply:
    """POST /v1/responses/compact: the user's messages and one opaque item for the rest."""
    fields.check("responses.compact", call.body)
    given = responses.input_items(call)
    seed = call.seed
    cipher = media.encode_base64(seed.draw("compacted").stretch(_COMPACTED_TOKENS * 4))
    opaque = {"id": seed.make_id("cmp_"), "type": "compaction", "encrypted_content": cipher}
    kept = [item for item in given if item.get("role") == "user"]
    used = responses.count_input(call.body, given)
    answer = {
        "id": seed.make_id("resp_"),
        "object": "response.compaction",
        "created_at": seed.created,
        "output": [*kept, opaque],
        "usage": responses.usage(call.body, used, _COMPACTED_TOKENS),
    }
    return Reply(answer, tokens=used)


def count(call: Call, _memory: Memory) -> Reply:
    """POST /v1/responses/input_tokens."""
    fields.check("responses.input_tokens", call.body)
    used = responses.count_input(call.body, responses.input_items(call))
    return Reply({"object": "response.input_tokens", "input_tokens": used})


def _find(call: Call, memory: Memory) -> Kept:
    kept = memory.responses.get(call.ids[0])
    if kept is None:
        message = f"Response with id '{call.ids[0]}' not found."
        raise Refusal(404, message)
    return kept
