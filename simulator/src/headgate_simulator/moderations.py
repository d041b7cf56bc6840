"""POST /v1/moderations: flags a text by the name of a category in it, such as "violence"."""

from __future__ import annotations

from typing import Any, cast

from headgate_simulator import content, fields
from headgate_simulator.memory import Memory
from headgate_simulator.messages import ApiRequest, ApiResponse

CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit",
    "illicit/violent", "self-harm", "self-harm/instructions", "self-harm/intent", "sexual",
    "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
_ALSO_IMAGES = ("self-harm", "sexual", "violence")


def create(request: ApiRequest, _memory: Memory) -> ApiResponse:
    """Return one verdict per text; the parts of a multi-modal input share one."""
    fields.check("moderations", request.body)
    given = request.body["input"]
    rows = cast(list[Any], given) if isinstance(given, list) else [given]
    if rows and isinstance(rows[0], dict):
        pictured = any(part.get("type") == "image_url" for part in rows)
        results = [_judge(content.text_of(rows), pictured)]
    else:
        results = [_judge(str(row), False) for row in rows]
    answer = {
        "id": request.seed.make_id("modr-"),
        "model": request.model or "omni-moderation-latest",
        "results": results,
    }
    return ApiResponse(answer)


def _judge(text: str, pictured: bool) -> dict[str, Any]:
    lowered = text.lower()
    found = {name: name in lowered for name in CATEGORIES}
    applied = {
        name: ["text", "image"]
        if pictured and name.split("/")[0] in _ALSO_IMAGES and name != "sexual/minors"
        else ["text"]
        for name in CATEGORIES
    }
    return {
        "flagged": any(found.values()),
        "categories": found,
        "category_scores": {name: 0.99 if hit else 0.0001 for name, hit in found.items()},
        "category_applied_input_types": applied,
    }
