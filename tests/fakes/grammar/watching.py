"""Check the grammar of every stream that a test's client reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Protocol, cast

import httpx2
import msgspec

from headgate.llm import sse
from tests.fakes.grammar.chat import ChatMachine
from tests.fakes.grammar.messages import MessagesMachine
from tests.fakes.grammar.responses import ResponsesMachine

DONE = b"[DONE]"
CHUNK = "chat.completion.chunk"


class Machine(Protocol):
    def feed(self, event: Any, /) -> None: ...
    def finish(self) -> None: ...


def watch_streams(response: httpx2.Response) -> None:
    """Let a client check the streams that it reads: a hook of httpx for responses."""
    kind = response.headers.get("content-type", "")
    if kind.startswith("text/event-stream") and response.status_code == 200:
        response.stream = WatchedStream(cast("httpx2.SyncByteStream", response.stream))


class WatchedStream(httpx2.SyncByteStream):
    """Pass a stream on, and check it when it is closed: its end only if it was read to there."""

    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream
        self._data = bytearray()
        self._is_whole = False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._data += chunk
            yield chunk
        self._is_whole = True

    def close(self) -> None:
        self._stream.close()
        check_bytes(bytes(self._data), is_whole=self._is_whole)


def check_bytes(data: bytes, *, is_whole: bool = True) -> None:
    """Assert that a stream of any API with a grammar keeps it; others are not looked at."""
    ends = [0, *sse.find_ends(data, 0, final=is_whole)]
    events = [sse.parse_event(data[start:end]) for start, end in itertools.pairwise(ends)]
    decoded = [decode(event.data) for event in events if event.data]
    machine = choose_machine(decoded[0]) if decoded else None
    if machine is None:
        return
    for event in decoded:
        machine.feed(event)
    if is_whole:
        machine.finish()


def decode(data: bytes) -> Any:
    return None if data == DONE else msgspec.json.decode(data)


def choose_machine(first: Any) -> Machine | None:
    """Return the machine of the API that a stream's first event belongs to."""
    fields = cast("dict[str, Any]", first or {})
    kind = str(fields.get("type", ""))
    if fields.get("object") == CHUNK:
        return ChatMachine()
    if kind == "message_start":
        return MessagesMachine()
    return ResponsesMachine() if kind == "response.created" else None
