"""POST /v1/images/generations, edits, variations: pictures of one colour in the requested size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headgate_simulator import fields, media, model_limits, tokens
from headgate_simulator.memory import Memory
from headgate_simulator.messages import (
    ApiRequest,
    ApiResponse,
    EventStream,
    Frame,
    invalid_value,
    missing_parameter,
)

IMAGES_MAX = 10
SIDE_MAX = 4096
INPUT_IMAGE_TOKENS = 85
QUALITY_TOKENS = {"low": 272, "standard": 1056, "hd": 4160, "high": 4160}
_QUALITY_TOKENS_USUAL = 1056


def generate(request: ApiRequest, _memory: Memory) -> ApiResponse | EventStream:
    fields.check("images.generations", request.body)
    model_limits.check_images(request.body)
    return _answer(request, "image_generation", "gpt-image-1", inputs=0)


def edit(request: ApiRequest, _memory: Memory) -> ApiResponse | EventStream:
    """Return pictures for pictures and a prompt (a form, or JSON with `images`)."""
    fields.check("images.edits", request.body)
    given = len(request.uploads) + len(request.body.get("images") or ())
    if not given:
        raise missing_parameter("image")
    return _answer(request, "image_edit", "gpt-image-1", inputs=given)


def vary(request: ApiRequest, _memory: Memory) -> ApiResponse | EventStream:
    fields.check("images.variations", request.body)
    request.upload("image")
    return _answer(request, "image_variation", "dall-e-2", inputs=1)


def _answer(
    request: ApiRequest, event: str, usual_model: str, *, inputs: int
) -> ApiResponse | EventStream:
    body = request.body
    is_gpt = "gpt-image" in (request.model or usual_model)
    n = _integer(body, "n", 1, IMAGES_MAX)
    pictures = [_picture(request, index) for index in range(n)]
    looks = {
        "background": "opaque",
        "output_format": "png",
        "quality": _quality(body),
        "size": "{}x{}".format(*_size(body)),
    }
    usage = _usage(body, n, inputs)
    if is_gpt and body.get("stream") in (True, "true"):
        return EventStream(
            _frames(request, event, pictures, {**looks, "usage": usage}), usage["input_tokens"]
        )
    answer: dict[str, Any] = {
        "created": request.seed.created,
        "data": [_shown(body, each, is_gpt) for each in pictures],
    }
    if is_gpt:
        answer |= {**looks, "usage": usage}
    return ApiResponse(answer, tokens=usage["input_tokens"])


def _shown(body: dict[str, Any], picture: str, is_gpt: bool) -> dict[str, Any]:
    if is_gpt or body.get("response_format") == "b64_json":
        return {"b64_json": picture}
    prompt = str(body.get("prompt") or "")
    return {"url": f"data:image/png;base64,{picture}", "revised_prompt": prompt}


def _frames(
    request: ApiRequest, event: str, pictures: list[str], looks: dict[str, Any]
) -> Iterator[Frame]:
    partial = {name: looks[name] for name in looks if name != "usage"}
    for picture in pictures:
        for index in range(_integer(request.body, "partial_images", 0, 3)):
            base = {"created_at": request.seed.created, "b64_json": picture}
            kind = f"{event}.partial_image"
            yield kind, {"type": kind, "partial_image_index": index, **base, **partial}
        kind = f"{event}.completed"
        base = {"created_at": request.seed.created, "b64_json": picture}
        yield kind, {"type": kind, **base, **looks}


def _picture(request: ApiRequest, index: int) -> str:
    colour = request.seed.draw("picture", index).stretch(3)
    return media.encode_base64(media.png(*_size(request.body), colour))


def _size(body: dict[str, Any]) -> tuple[int, int]:
    width, _, height = str(body.get("size") or "auto").partition("x")
    if not (width.isdigit() and height.isdigit()):
        return 1024, 1024
    if not (0 < int(width) <= SIDE_MAX and 0 < int(height) <= SIDE_MAX):
        raise invalid_value("size", f"Invalid size '{body['size']}'.")
    return int(width), int(height)


def _quality(body: dict[str, Any]) -> str:
    quality = str(body.get("quality") or "auto")
    return "medium" if quality == "auto" else quality


def _usage(body: dict[str, Any], n: int, inputs: int) -> dict[str, Any]:
    text = tokens.count(str(body.get("prompt") or ""))
    pictures = inputs * INPUT_IMAGE_TOKENS
    made = n * QUALITY_TOKENS.get(_quality(body), _QUALITY_TOKENS_USUAL)
    return {
        "input_tokens": text + pictures,
        "input_tokens_details": {"text_tokens": text, "image_tokens": pictures},
        "output_tokens": made,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": made},
        "total_tokens": text + pictures + made,
    }


def _integer(body: dict[str, Any], name: str, low: int, high: int) -> int:
    value = str(body.get(name) or low)
    if not value.isdigit() or not low <= int(value) <= high:
        raise invalid_value(name, f"Invalid '{name}': expected an integer from {low} to {high}.")
    return int(value)
