"""The calls of a soak, and the bytes that each one sends and must get back.

Every answer carries the number of its call in each of its events, so that an answer which reached
the wrong caller, or was mixed with another one, is seen.
"""

from __future__ import annotations

import enum
import json
import random
from dataclasses import dataclass

MODEL = "gpt-5.4-mini"
STREAM_SHARE, FAULT_SHARE, LEAVE_SHARE = 0.30, 0.05, 0.02
UNASKED_SHARE = 0.5
"""The share of streams whose caller does not ask for usage, which the gateway then hides."""
EVENTS = 20
MARK = b"soak-"
QUOTED_BYTES = 300
SLOT = b"@" * 12
DONE = b"data: [DONE]\n\n"


class CallFault(enum.Enum):
    """Name what goes wrong with a call; the value is sent to the upstream."""

    NONE = "fine"
    REFUSE = "refuse"
    """Every attempt is answered with 500."""
    LIMIT = "limit"
    """Every attempt is answered with 429."""
    DROP = "drop"
    """Every attempt is closed before its head."""
    ONCE = "once"
    """The first attempt is answered with 500, the second one correctly."""
    CUT = "cut"
    """The answer breaks off."""
    GARBAGE = "garbage"
    """A whole answer that is not JSON."""
    LEAVE = "leave"
    """The caller leaves; the answer would have come a moment later."""
    ABANDON = "abandon"
    """The caller leaves; the answer would never have ended."""


FAULTS = {
    False: (
        CallFault.REFUSE,
        CallFault.LIMIT,
        CallFault.DROP,
        CallFault.ONCE,
        CallFault.CUT,
        CallFault.GARBAGE,
    ),
    True: (CallFault.REFUSE, CallFault.DROP, CallFault.ONCE, CallFault.CUT),
}
LEAVES = (CallFault.LEAVE, CallFault.ABANDON)
WORDS = {fault.value.encode(): fault for fault in CallFault}


@dataclass(frozen=True)
class Call:
    """Describe one call: whether it streams, whether it asks for usage, and what goes wrong."""

    number: int
    streams: bool
    asks_usage: bool
    fault: CallFault

    @property
    def leaves(self) -> bool:
        return self.fault in LEAVES


def draw(number: int, *, seed: int) -> Call:
    """Return the call of a number, the same in every run of one seed."""
    dice = random.Random(seed * 1_000_003 + number)
    streams = dice.random() < STREAM_SHARE
    kind = dice.random()
    fault = CallFault.NONE
    if kind < FAULT_SHARE:
        fault = dice.choice(FAULTS[streams])
    elif kind < FAULT_SHARE + LEAVE_SHARE:
        fault = dice.choice(LEAVES)
    return Call(number, streams, dice.random() >= UNASKED_SHARE, fault)


def render_request(call: Call, token: str) -> bytes:
    document: dict[str, object] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Name the gate that every call passes. " * 8}],
        "max_completion_tokens": 64,
        "user": f"soak-{call.number:012d}-{call.fault.value}-",
    }
    if call.streams:
        document["stream"] = True
        if call.asks_usage:
            document["stream_options"] = {"include_usage": True}
    body = json.dumps(document).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def read_mark(body: bytes) -> tuple[bytes, CallFault]:
    """Return the number (12 digits) and the fault of a call, from the upstream's request body."""
    at = body.index(MARK) + len(MARK)
    number, word = body[at : at + 12], body[at + 13 : body.index(b"-", at + 13)]
    return number, WORDS[word]


def _event(choices: str, more: str = "") -> bytes:
    return (
        f'data: {{"id":"chatcmpl-{SLOT.decode()}","object":"chat.completion.chunk",'
        f'"created":1760000000,"model":"{MODEL}-2026-03-17","choices":[{choices}]{more}}}\n\n'
    ).encode()


_WORD = '{"index":0,"delta":{"content":" gate"},"finish_reason":null}'
_STOP = '{"index":0,"delta":{},"finish_reason":"stop"}'
STREAM = [*([_event(_WORD)] * (EVENTS - 1)), _event(_STOP)]
USAGE_EVENT = _event("", ',"usage":{"prompt_tokens":120,"completion_tokens":20,"total_tokens":140}')
ANSWER = json.dumps(
    {
        "id": f"chatcmpl-{SLOT.decode()}",
        "object": "chat.completion",
        "created": 1760000000,
        "model": f"{MODEL}-2026-03-17",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The gate counts. " * 40},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 120, "completion_tokens": 20, "total_tokens": 140},
        "service_tier": "default",
    },
    separators=(",", ":"),
).encode()
_WHOLE = {
    (False, False): ANSWER,
    (False, True): ANSWER,
    (True, False): b"".join([*STREAM, DONE]),
    (True, True): b"".join([*STREAM, USAGE_EVENT, DONE]),
}


def expect(call: Call) -> bytes:
    """Return the body of the call's whole answer."""
    return _WHOLE[call.streams, call.asks_usage].replace(SLOT, b"%012d" % call.number)


def judge(call: Call, status: int, body: bytes) -> str | None:
    """Return what is wrong with the end of a call, or None."""
    if call.fault in (CallFault.NONE, CallFault.ONCE):
        right = status == 200 and body == expect(call)
        return None if right else f"status {status}, not its own answer: {body[:QUOTED_BYTES]!r}"
    if status == 200:
        return (
            None
            if may_break_off(call) and is_broken_off(body)
            else "a good end, for an answer that broke"
        )
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = ""
    return None if status >= 400 and message else f"status {status} without an error in its wire"


def may_break_off(call: Call) -> bool:
    """Return whether the gateway can do no better than to end the answer early."""
    return call.streams and call.fault is CallFault.CUT


def is_broken_off(body: bytes) -> bool:
    """Return whether a stream ends in an error frame."""
    return b'"error"' in body.rpartition(b"data: ")[2] or (
        DONE not in body and b'data: {"error"' in body
    )
