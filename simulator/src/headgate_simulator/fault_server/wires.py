"""The correct answer of each wire, whole and as events, which the scripts then spoil.

Every answer has the same text and the same tokens. The text has characters of two, three and four
bytes, so that a cut can fall inside one.
"""

from __future__ import annotations

import json
from typing import Any

from headgate_simulator.fault_server.steps import FaultRequest, Send, StartBilling, Steps

CHAT, RESPONSES, EMBEDDINGS, RAW = "chat", "responses", "embeddings", "raw"
INPUT_TOKENS = 20
PIECES = ("Hello", ", Grüße", ", 世界", ", \N{EARTH GLOBE EUROPE-AFRICA}", ".")
PIECE_TOKENS = 10
OUTPUT_TOKENS = PIECE_TOKENS * len(PIECES)
MODEL = "gpt-5.4-mini"
EMBEDDING_MODEL = "text-embedding-3-small"
ERROR_MESSAGE = "The server had an error."
ERROR: dict[str, Any] = {
    "message": ERROR_MESSAGE,
    "type": "server_error",
    "param": None,
    "code": "boom",
}
_TEXT = "".join(PIECES)
_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}


def output_tokens(wire: str) -> int:
    """Return what a whole answer of this wire charges besides its input."""
    return OUTPUT_TOKENS if wire in (CHAT, RESPONSES) else 0


def usage(wire: str, read: str | None = None, written: str | None = None) -> str:
    """Return the JSON of a usage object; `read` and `written` replace the correct numbers."""
    read = str(INPUT_TOKENS) if read is None else read
    written = str(output_tokens(wire)) if written is None else written
    if wire == EMBEDDINGS:
        return f'{{"prompt_tokens":{read},"total_tokens":{read}}}'
    total = INPUT_TOKENS + output_tokens(wire)
    names = ("input_tokens", "output_tokens") if wire == RESPONSES else _CHAT_NAMES
    return f'{{"{names[0]}":{read},"{names[1]}":{written},"total_tokens":{total}}}'


_CHAT_NAMES = ("prompt_tokens", "completion_tokens")


def body(request: FaultRequest, stated: str | None = "right") -> bytes:
    """Return a whole answer; `stated` is the JSON of its usage, None to leave it out."""
    if request.wire == RAW:
        return bytes(range(256)) * 8
    answer = _ANSWERS[request.wire]
    stated = usage(request.wire) if stated == "right" else stated
    text = json.dumps(answer, ensure_ascii=False)
    return (text if stated is None else f'{text[:-1]},"usage":{stated}}}').encode()


def events(request: FaultRequest, stated: str | None = "right") -> list[Send]:
    """Return the events of a streamed answer, the last of which ends it; `stated` as for `body`."""
    states_usage = stated == "right"
    stated = usage(request.wire) if states_usage else stated
    return _EVENTS[request.wire](stated, states_usage)


def error_event(request: FaultRequest) -> bytes:
    """Return an error in the wire's own form, as one event."""
    if request.wire != RESPONSES:
        return _event({"error": ERROR})
    event = {"type": "error", "error": ERROR, "sequence_number": 9}
    return _event(ERROR | event, "error")


def start_billing() -> Steps:
    """Charge for the input from here on."""
    yield StartBilling(INPUT_TOKENS)


def _event(payload: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(payload, ensure_ascii=False)}\n\n".encode()


def _chat_events(stated: str | None, states_usage: bool) -> list[Send]:
    found = [
        Send(_event({**_CHUNK, "choices": [_choice(piece)]}), PIECE_TOKENS) for piece in PIECES
    ]
    found.append(Send(_event({**_CHUNK, "choices": [{**_choice(None), "finish_reason": "stop"}]})))
    if stated is not None:
        plain = json.dumps({**_CHUNK, "choices": []})
        found.append(
            Send(f'data: {plain[:-1]},"usage":{stated}}}\n\n'.encode(), states_usage=states_usage)
        )
    return [*found, Send(b"data: [DONE]\n\n")]


def _choice(piece: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": {} if piece is None else {"content": piece}, "finish_reason": None}


def _response_events(stated: str | None, states_usage: bool) -> list[Send]:
    begun: dict[str, Any] = {
        **_ANSWERS[RESPONSES],
        "status": "in_progress",
        "output": [],
        "usage": None,
    }
    first = {"type": "response.created", "sequence_number": 0, "response": begun}
    found = [Send(_event(first, "response.created"))]
    for number, piece in enumerate(PIECES, 1):
        kind = "response.output_text.delta"
        where: dict[str, Any] = {
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "logprobs": [],
        }
        delta: dict[str, Any] = {"type": kind, "sequence_number": number, **where, "delta": piece}
        found.append(Send(_event(delta, kind), PIECE_TOKENS))
    answer = json.dumps(_ANSWERS[RESPONSES], ensure_ascii=False)
    answer = answer if stated is None else f'{answer[:-1]},"usage":{stated}}}'
    last = f'{{"type":"response.completed","sequence_number":9,"response":{answer}}}'
    return [
        *found,
        Send(f"event: response.completed\ndata: {last}\n\n".encode(), states_usage=states_usage),
    ]


def _raw_events(_stated: str | None, _states_usage: bool) -> list[Send]:
    return [Send(_event({"step": piece}, "thread.step")) for piece in PIECES]


_BEGUN: dict[str, Any] = {"status": "in_progress", "output": [], "usage": None}
_PLACE: dict[str, Any] = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
_EVENTS = {CHAT: _chat_events, RESPONSES: _response_events, RAW: _raw_events}
_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": _TEXT, "annotations": []}],
}
_ANSWERS: dict[str, dict[str, Any]] = {
    CHAT: {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": _TEXT},
                "finish_reason": "stop",
            }
        ],
    },
    RESPONSES: {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": MODEL,
        "status": "completed",
        "output": [_MESSAGE],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    },
    EMBEDDINGS: {
        "object": "list",
        "model": EMBEDDING_MODEL,
        "data": [{"object": "embedding", "index": 0, "embedding": [0.0, 1.0]}],
    },
}
