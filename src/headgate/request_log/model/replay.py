"""Compare an answer with the one that was kept, and say where they differ."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, Literal, cast

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.request_log.model.payload import Payload, StoredExchange, find_header, keep_body

ReplayTarget = Literal["simulator", "provider"]
DIFFERENCES_MAX = 100
TEXT_CHARACTERS_MAX = 200
BODY_BYTES_MAX = 1 << 20
EVENT_STREAM = "text/event-stream"
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_ABSENT = object()
_NAME = re.compile(r"[^.\[\]]+")


class ReplayIncompleteError(HeadgateError):
    """The body of the request is not kept whole, so it cannot be sent again.

    Attachments are kept as digests, and long bodies are cut: raise
    `HEADGATE_REQUEST_LOG_PAYLOAD_BYTES_MAX` for further requests, or send the request anew.
    """

    kind = Kind.CONFLICT
    code = "replay_incomplete"


class ReplayKeyError(HeadgateError):
    """The API key of the request is revoked, disabled or expired, so no provider is asked for it.

    Replay the request against the simulator.
    """

    kind = Kind.CONFLICT
    code = "replay_key_inactive"


class ReplayTargetMissingError(HeadgateError):
    """This process has no data plane that a request could be sent to.

    Replay the request on a running server.
    """

    kind = Kind.UNAVAILABLE
    code = "replay_target_missing"


class ReplayAnswer(msgspec.Struct, frozen=True):
    """Hold what a replay was answered. `request_id` is that of the new call."""

    request_id: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class AnswerDifference(msgspec.Struct, frozen=True):
    """Name a place where two answers differ, such as `choices[0].message.content`. A value is None
    where the place is absent, and the beginning of a long text."""

    path: str
    recorded: Any
    replayed: Any


class ReplayResult(msgspec.Struct, frozen=True):
    """Hold what a replay gave. `is_identical` says that the body has the same bytes, and the answer
    the same status; `matches`, that they differ in no field but those that may differ."""

    request_id: str
    recorded_id: str
    target: ReplayTarget
    is_identical: bool
    matches: bool
    recorded_status: int
    replayed_status: int
    differences: tuple[AnswerDifference, ...]
    recorded: Payload
    replayed: Payload


def check_replayable(stored: StoredExchange) -> None:
    """Raise `ReplayIncompleteError` for a request whose body is not kept whole."""
    if stored.request.body is None or not stored.request.is_exact:
        reason = "is no text"
        if stored.request.body is not None:
            reason = "was cut" if stored.request.is_cut else "had attachments"
        raise ReplayIncompleteError(f"The body of the request {reason}, and is not kept whole.")


def compare(
    recorded_id: str,
    target: ReplayTarget,
    stored: StoredExchange,
    answer: ReplayAnswer,
    ignored: Collection[str] = (),
) -> ReplayResult:
    """Compare an answer with the recorded one, byte for byte, and by its fields where they differ.

    `ignored` are names of fields that may differ, at any depth, with all that is in them.
    """
    media_type = find_header(answer.headers, "content-type")
    replayed = keep_body(answer.body, media_type, bytes_max=BODY_BYTES_MAX)
    recorded = stored.response
    differences: list[AnswerDifference] = []
    if stored.status != answer.status:
        differences.append(AnswerDifference("status", stored.status, answer.status))
    has_same_bytes = bool(recorded.sha256) and recorded.sha256 == replayed.sha256
    if not has_same_bytes:
        differences += _list_differences(recorded, replayed, frozenset(ignored))
    return ReplayResult(
        answer.request_id,
        recorded_id,
        target,
        has_same_bytes and stored.status == answer.status,
        not differences,
        stored.status,
        answer.status,
        tuple(differences[:DIFFERENCES_MAX]),
        recorded,
        replayed,
    )


def _list_differences(
    recorded: Payload, replayed: Payload, ignored: frozenset[str]
) -> list[AnswerDifference]:
    before, after = _decode(recorded), _decode(replayed)
    found: list[AnswerDifference] = []
    is_explained = False
    if before is not _ABSENT and after is not _ABSENT:
        for difference in _walk(before, after, ""):
            is_explained = True
            if ignored.isdisjoint(_NAME.findall(difference.path)):
                found.append(difference)
            if len(found) >= DIFFERENCES_MAX:
                break
    if is_explained:
        return found
    # The same fields in other bytes, or bodies that cannot be read.
    return [
        AnswerDifference(
            "body",
            f"{recorded.size} bytes, sha256 {recorded.sha256 or 'unknown'}",
            f"{replayed.size} bytes, sha256 {replayed.sha256}",
        )
    ]


def _decode(payload: Payload) -> Any:
    """Return a body as values: the object of JSON, the events of a stream, or lines of text."""
    if payload.body is None:
        return _ABSENT
    if payload.media_type == EVENT_STREAM:
        return {"events": [_decode_event(each) for each in _split_events(payload.body)]}
    try:
        return msgspec.json.decode(payload.body)
    except _UNREADABLE:
        return {"lines": payload.body.decode("utf-8", "replace").splitlines()}


def _split_events(body: bytes) -> list[bytes]:
    whole = body.replace(b"\r\n", b"\n")
    return [each for each in whole.split(b"\n\n") if each.strip()]


def _decode_event(event: bytes) -> Any:
    lines = event.split(b"\n")
    data = b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))
    try:
        decoded = msgspec.json.decode(data)
    except _UNREADABLE:
        decoded = data.decode("utf-8", "replace")
    names = [line[6:].strip().decode() for line in lines if line.startswith(b"event:")]
    return {"event": names[0], "data": decoded} if names else decoded


def _walk(before: Any, after: Any, path: str) -> Iterator[AnswerDifference]:
    if isinstance(before, dict) and isinstance(after, dict):
        first, second = cast("dict[str, Any]", before), cast("dict[str, Any]", after)
        for name in (*first, *(each for each in second if each not in first)):
            place = f"{path}.{name}" if path else name
            yield from _walk(first.get(name, _ABSENT), second.get(name, _ABSENT), place)
    elif isinstance(before, list) and isinstance(after, list):
        ones, others = cast("list[Any]", before), cast("list[Any]", after)
        for index in range(max(len(ones), len(others))):
            one = ones[index] if index < len(ones) else _ABSENT
            other = others[index] if index < len(others) else _ABSENT
            yield from _walk(one, other, f"{path}[{index}]")
    elif before is _ABSENT or after is _ABSENT or before != after:
        yield AnswerDifference(path, _show(before), _show(after))


def _show(value: Any) -> Any:
    if value is _ABSENT:
        return None
    if isinstance(value, str):
        return value[:TEXT_CHARACTERS_MAX]
    text = msgspec.json.encode(value).decode()
    return text[:TEXT_CHARACTERS_MAX] if len(text) > TEXT_CHARACTERS_MAX else value
