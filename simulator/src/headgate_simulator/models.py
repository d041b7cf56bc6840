"""GET /v1/models. Other names are answered too; these are the ones listed."""

from __future__ import annotations

from headgate_simulator.memory import Memory
from headgate_simulator.messages import ApiError, ApiRequest, ApiResponse
from headgate_simulator.seed import EPOCH

NAMES = (
    "gpt-5.5", "gpt-5.5-pro", "gpt-5.4", "gpt-5.4-pro", "gpt-5.4-mini", "gpt-5.4-nano",
    "gpt-5-chat-latest", "gpt-5.3-codex", "o3-pro", "o3", "text-embedding-3-large",
    "text-embedding-3-small", "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano",
    "o3-mini", "o4-mini", "gpt-4o-search-preview", "gpt-4o-mini-search-preview",
    "gpt-audio", "gpt-3.5-turbo", "gpt-3.5-turbo-instruct", "text-embedding-ada-002",
    "dall-e-2", "dall-e-3", "gpt-image-1", "whisper-1", "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe", "gpt-4o-mini-tts", "tts-1", "tts-1-hd", "omni-moderation-latest",
)  # fmt: skip
MODELS = {
    name: {"id": name, "object": "model", "created": EPOCH, "owned_by": "headgate-simulator"}
    for name in NAMES
}


def list_all(_call: ApiRequest, _memory: Memory) -> ApiResponse:
    return ApiResponse({"object": "list", "data": list(MODELS.values())})


def read(request: ApiRequest, _memory: Memory) -> ApiResponse:
    if request.ids[0] not in MODELS:
        message = f"The model '{request.ids[0]}' does not exist"
        raise ApiError(404, message, param="model", code="model_not_found")
    return ApiResponse(MODELS[request.ids[0]])
