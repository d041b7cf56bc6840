"""The callers of a soak: a fixed number of connections, each with one call after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import httptools

from rigs.soak import mix

LEAVE_SECONDS = 0.01
WRONG_SHOWN_MAX = 20
ANSWER_SECONDS_MAX = 60.0


@dataclass
class Tally:
    """Count the calls and how they ended."""

    done: int = 0
    left: int = 0
    wrong: int = 0
    shown: list[str] = field(default_factory=list[str])
    """The first wrong answers, in words."""
    calls_by_fault: dict[str, int] = field(default_factory=dict[str, int])
    seconds: list[float] | None = None
    """Seconds of each call, if they are measured."""

    def note(self, call: mix.Call, fault: str | None) -> None:
        self.done += 1
        self.left += call.leaves
        self.calls_by_fault[call.fault.value] = self.calls_by_fault.get(call.fault.value, 0) + 1
        if fault is not None:
            self.wrong += 1
            if len(self.shown) < WRONG_SHOWN_MAX:
                self.shown.append(f"{call}: {fault}")


class Load:
    """Make calls from the next number on; `tokens` are used in turn, so that all keys are."""

    def __init__(self, port: int, tokens: Sequence[str], *, seed: int) -> None:
        self.port = port
        self.tally = Tally()
        self._tokens = tokens
        self._seed = seed
        self._next = 0

    async def run(
        self, calls: int, connections: int, every: int, on_every: Callable[[], None]
    ) -> None:
        """Make so many calls; `on_every` is called after each `every` of them."""
        last = self._next + calls

        async def work() -> None:
            caller: Caller | None = None
            while self._next < last:
                call = mix.draw(self._next, seed=self._seed)
                self._next += 1
                if caller is None or caller.is_closed:
                    caller = await self._connect()
                await self._make(caller, call)
                if self.tally.done % every == 0:
                    on_every()
            if caller is not None:
                caller.close()

        await asyncio.gather(*(work() for _ in range(connections)))

    async def _connect(self) -> Caller:
        loop = asyncio.get_running_loop()
        _, caller = await loop.create_connection(Caller, "127.0.0.1", self.port)
        return caller

    async def _make(self, caller: Caller, call: mix.Call) -> None:
        token = self._tokens[call.number % len(self._tokens)]
        begin = time.monotonic()
        ended = caller.ask(call, mix.render_request(call, token))
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                await ended
        except TimeoutError:
            caller.close()
            self.tally.note(call, "no end of the answer")
            return
        if self.tally.seconds is not None and call.fault is mix.CallFault.NONE:
            self.tally.seconds.append(time.monotonic() - begin)
        if call.leaves:
            self.tally.note(call, None)
        elif not caller.is_whole and not mix.may_break_off(call):
            self.tally.note(call, "the connection closed in the answer")
        else:
            self.tally.note(call, mix.judge(call, caller.status, b"".join(caller.pieces)))


class Caller(asyncio.Protocol):
    """Represent one connection to the gateway, and the answer that arrives on it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._call: mix.Call | None = None
        self.is_closed = False
        self.is_whole = False
        self.status = 0
        self.pieces: list[bytes] = []

    def ask(self, call: mix.Call, request: bytes) -> asyncio.Future[None]:
        """Send a request; the future is done when its answer, or the connection, has ended."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._call, self._ended = call, loop.create_future()
        self.is_whole, self.status, self.pieces = False, 0, []
        self._transport.write(request)
        if call.leaves and not call.streams:
            loop.call_later(LEAVE_SECONDS, self.close)
        return self._ended

    def close(self) -> None:
        self.is_closed = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.is_closed = True
        self._end()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_message_begin(self) -> None:
        self.pieces = []

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)
        if self._call is not None and self._call.leaves:
            self.close()

    def on_message_complete(self) -> None:
        self.is_whole = True
        if not self._parser.should_keep_alive():
            self.close()
        self._end()

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
