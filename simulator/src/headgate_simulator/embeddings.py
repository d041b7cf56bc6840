"""POST /v1/embeddings: vectors of length 1 that depend on the text alone."""

from __future__ import annotations

import array
import base64
import math
from typing import Any, cast

from headgate_simulator import fields, tokens
from headgate_simulator.memory import Memory
from headgate_simulator.messages import ApiRequest, ApiResponse, invalid_value
from headgate_simulator.seed import Seed

DIMENSIONS = {"text-embedding-3-large": 3072}
DIMENSIONS_USUAL = 1536
INPUTS_MAX = 2048
_MIDDLE = 32767.5


def create(request: ApiRequest, _memory: Memory) -> ApiResponse:
    """Return one vector per input: a string, or a list of token ids."""
    body = request.body
    fields.check("embeddings", body)
    inputs = _inputs(body["input"])
    size = body.get("dimensions") or DIMENSIONS.get(request.model, DIMENSIONS_USUAL)
    if not isinstance(size, int) or not 1 <= size <= DIMENSIONS.get(
        request.model, DIMENSIONS_USUAL
    ):
        raise invalid_value("dimensions", f"Invalid value for 'dimensions' = {size}.")
    packed = body.get("encoding_format") == "base64"
    vectors = (_vector(str(each), size) for each in inputs)
    data = [
        {"object": "embedding", "index": index, "embedding": _pack(vector) if packed else vector}
        for index, vector in enumerate(vectors)
    ]
    used = sum(len(each) if isinstance(each, list) else tokens.count(each) for each in inputs)
    usage = {"prompt_tokens": used, "total_tokens": used}
    answer = {"object": "list", "data": data, "model": request.model, "usage": usage}
    return ApiResponse(answer, tokens=used)


def _inputs(given: Any) -> list[str | list[int]]:
    rows = cast(list[Any], given) if isinstance(given, list) else [given]
    if rows and isinstance(rows[0], int):
        rows = [rows]
    if not 1 <= len(rows) <= INPUTS_MAX or not all(
        row and isinstance(row, str | list) for row in rows
    ):
        raise invalid_value("input", "'$.input' is invalid. Please check the API reference.")
    return cast(list[str | list[int]], rows)


def _vector(text: str, size: int) -> list[float]:
    raw = array.array("H", Seed(text.encode("utf-8", "surrogatepass")).stretch(size * 2))
    centred = [value - _MIDDLE for value in raw]
    length = math.hypot(*centred)
    return [value / length for value in centred]


def _pack(vector: list[float]) -> str:
    return base64.b64encode(array.array("f", vector).tobytes()).decode()
