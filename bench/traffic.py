"""The requests that every subject gets: fixed sizes, and the fields that a real client sends."""

from __future__ import annotations

import json
from dataclasses import dataclass

MODEL = "gpt-5.4-mini"
SMALL_BYTES = 592
LARGE_BYTES = 20480
EVENTS = 68
"""Events of one stream: 66 with content, the usage, [DONE]."""

PROMPT = "Name the gate that every model call passes, and say what it counts. "


@dataclass(frozen=True)
class Kind:
    """Describe one shape of call: the size of its body, whether the answer is a stream or the large
    one, and whether a stream's events come at once instead of one after the other.
    """

    name: str
    body_bytes: int
    stream: bool = False
    large: bool = False
    burst: bool = False


SMALL = Kind("small", SMALL_BYTES)
LARGE = Kind("large", LARGE_BYTES, large=True)
STREAM = Kind("stream", SMALL_BYTES, stream=True)
BURST = Kind("burst", SMALL_BYTES, stream=True, burst=True)
KINDS = (SMALL, LARGE, STREAM, BURST)


@dataclass(frozen=True)
class Address:
    """Hold where a subject takes chat completions, and what it needs in them."""

    port: int
    path: str = "/v1/chat/completions"
    stream_path: str = "/v1/chat/completions"
    key: str = "sk-bench"
    model: str = MODEL
    metadata: bool = True
    """TensorZero logs every call that has this field, which would make it look slower."""
    credential: str = ""
    """The credential of Headgate to use; empty for its default."""


def render_body(kind: Kind, model: str = MODEL, *, metadata: bool = True) -> bytes:
    """Return a chat completion request of exactly `kind.body_bytes` bytes."""

    def render(text: str) -> bytes:
        document: dict[str, object] = {
            "model": model,
            "messages": [
                {"role": "system", "content": "Answer in one sentence."},
                {"role": "user", "content": text},
            ],
            "temperature": 0.2,
            "max_completion_tokens": 256,
        }
        if metadata:
            document["metadata"] = {"team": "bench"}
        if kind.stream:
            document |= {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps(document, separators=(",", ":")).encode()

    marker = "bench-20k " if kind.large else "bench-burst " if kind.burst else ""
    room = kind.body_bytes - len(render(marker))
    filler = PROMPT * (room // len(PROMPT) + 1)
    return render(marker + filler[:room])


def render_request(kind: Kind, address: Address) -> bytes:
    """Return the whole HTTP request."""
    body = render_body(kind, address.model, metadata=address.metadata)
    path = address.stream_path if kind.stream else address.path
    credential = f"X-Headgate-Credential: {address.credential}\r\n" if address.credential else ""
    head = (
        f"POST {path} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{address.port}\r\n"
        "Accept: application/json\r\n"
        "User-Agent: headgate-bench/1\r\n"
        f"Authorization: Bearer {address.key}\r\n"
        f"{credential}"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
