"""Stand-ins for providers that speak OpenAI's wire in their own ways, by their public references.

They are written from the references, and not from the catalog's files: a field that a provider does
not know is refused or ignored here as it says itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.upstream import ReceivedRequest

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


def refuse_of_groq(body: dict[str, Any]) -> tuple[int, Any] | None:
    named = [name for name in ("logprobs", "logit_bias", "top_logprobs") if name in body]
    named += ["messages.name"] if any("name" in each for each in body["messages"]) else []
    named += ["n"] if body.get("n", 1) != 1 else []
    if not named:
        return None
    message = f"property '{named[0]}' is unsupported"
    return 400, {"error": {"message": message, "type": "invalid_request_error"}}


MISTRAL = frozenset(
    [
        "model",
        "temperature",
        "top_p",
        "max_tokens",
        "stream",
        "stop",
        "random_seed",
        "metadata",
        "messages",
        "response_format",
        "tools",
        "tool_choice",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "prediction",
        "parallel_tool_calls",
        "prompt_mode",
        "safe_prompt",
    ]
)


def refuse_of_mistral(body: dict[str, Any]) -> tuple[int, Any] | None:
    extra = [name for name in body if name not in MISTRAL]
    if not extra:
        return None
    detail = [
        {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
        for name in extra
    ]
    return 422, {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error"}


GEMINI = frozenset(
    [
        "model",
        "messages",
        "frequency_penalty",
        "presence_penalty",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "reasoning_effort",
        "response_format",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "tools",
        "tool_choice",
        "extra_body",
    ]
)


def refuse_of_gemini(body: dict[str, Any]) -> tuple[int, Any] | None:
    for name in body:
        if name not in GEMINI:
            message = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
            return 400, [{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}]
    return None


def refuse_nothing(_body: dict[str, Any]) -> tuple[int, Any] | None:
    return None


@dataclass(frozen=True)
class ProviderProfile:
    """Say how a provider differs. `path` stands before `/chat/completions`; `usage` is when a
    stream has it: if it is `asked` for, or `always`. `comment` fills silence in a stream."""

    secret: str
    model: str
    wire_model: str
    path: str
    header: str = "authorization"
    refuse: Callable[[dict[str, Any]], tuple[int, Any] | None] = refuse_nothing
    ignored: frozenset[str] = frozenset()
    usage: str = "asked"
    comment: bytes = b""
    tested_path: str = "/models"
    lost: frozenset[str] = field(default_factory=frozenset[str])

    @property
    def authorization(self) -> str:
        return f"Bearer {self.secret}" if self.header == "authorization" else self.secret

    def answer(self, received: ReceivedRequest) -> None:
        """Answer a request as this provider does."""
        if received.headers.get(self.header) != self.authorization:
            received.answer(b'{"error":{"message":"Unauthorized","type":"auth"}}', status=401)
        elif received.method == "GET":
            known = received.target == f"/v1{self.path}{self.tested_path}"
            received.answer(b'{"data":[]}' if known else b"{}", status=200 if known else 404)
        elif received.target != f"/v1{self.path}/chat/completions":
            received.answer(b'{"error":{"message":"Not found"}}', status=404)
        elif (refusal := self.refuse(received.json)) is not None:
            received.answer(json.dumps(refusal[1]).encode(), status=refusal[0])
        elif received.json.get("stream"):
            self._stream(received)
        else:
            choice = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
            received.answer(self._encode(received, choices=[choice], usage=USAGE))

    def _stream(self, received: ReceivedRequest) -> None:
        received.begin_stream()
        options: dict[str, Any] = received.json.get("stream_options") or {}
        has_usage = self.usage == "always" or options.get("include_usage")
        last: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": "stop"}
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": MESSAGE, "finish_reason": None}]},
            # A provider that always tells the usage has it in the chunk that ends the answer.
            {"choices": [last], **({"usage": USAGE} if self.usage == "always" else {})},
        ]
        if has_usage and self.usage == "asked":
            chunks.append({"choices": [], "usage": USAGE})
        if self.comment:
            received.send_chunk(self.comment)
        for chunk in chunks:
            received.send_chunk(b"data: %b\n\n" % self._encode(received, **chunk))
        received.send_chunk(b"data: [DONE]\n\n")
        received.send_end()

    def _encode(self, received: ReceivedRequest, **fields: Any) -> bytes:
        kind = "chat.completion.chunk" if received.json.get("stream") else "chat.completion"
        common = {"id": "chatcmpl-1", "object": kind, "created": 1, "model": self.wire_model}
        return json.dumps({**common, **fields}).encode()


MESSAGE = {"role": "assistant", "content": "Hello"}
OLLAMA_IGNORES = frozenset({"n", "logit_bias", "user", "store", "metadata"})

PROFILES = {
    "groq": ProviderProfile(
        "gsk_0123456789abcdefghijklmn",
        "gpt-oss-120b",
        "openai/gpt-oss-120b",
        "/openai/v1",
        refuse=refuse_of_groq,
        lost=frozenset({"logit_bias", "n", "messages.0.name"}),
    ),
    "mistral": ProviderProfile(
        "0123456789abcdefghijklmnABCDEFGH",
        "mistral-medium-3-5",
        "mistral-medium-3-5",
        "/v1",
        refuse=refuse_of_mistral,
        usage="always",
        lost=frozenset({"logit_bias", "store", "user"}),
    ),
    "gemini": ProviderProfile(
        "AIzaSy0123456789abcdefghijklmn",
        "gemini-3.8-flash",
        "gemini-3.8-flash",
        "/v1beta/openai",
        refuse=refuse_of_gemini,
        lost=frozenset({"logit_bias", "store", "user", "messages.0.name"}),
    ),
    "openrouter": ProviderProfile(
        "sk-or-v1-0123456789abcdefghijklmn",
        "openrouter/vendor/model",
        "vendor/model",
        "/api/v1",
        usage="always",
        comment=b": OPENROUTER PROCESSING\n\n",
        tested_path="/key",
    ),
    "azure_openai": ProviderProfile(
        "0123456789abcdef0123456789abcdef",
        "azure_openai/gpt-4.1",
        "gpt-4.1",
        "/openai/v1",
        header="api-key",
    ),
    "vllm": ProviderProfile(
        "token-abc123",
        "vllm/Qwen/Qwen3-8B",
        "Qwen/Qwen3-8B",
        "/v1",
        ignored=frozenset({"store"}),
        lost=frozenset({"store"}),
    ),
    "ollama": ProviderProfile(
        "ollama",
        "ollama/llama3.3:70b",
        "llama3.3:70b",
        "/v1",
        ignored=OLLAMA_IGNORES,
        lost=frozenset({"n", "logit_bias", "user", "store"}),
    ),
    "lm_studio": ProviderProfile(
        "lm-studio",
        "lm_studio/qwen3-8b",
        "qwen3-8b",
        "/v1",
        ignored=frozenset({"n", "user", "store"}),
        lost=frozenset({"n", "user", "store"}),
    ),
}
"""The providers of the catalog, without OpenAI. `lost` is what becomes of a request that has
`logit_bias`, `n`, `user`, `store`, and a name in its first message."""
