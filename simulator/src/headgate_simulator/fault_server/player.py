"""The playing of a script on its connection, and the count of what it would cost."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from headgate_simulator.fault_server.steps import (
    Close,
    Pause,
    Repeat,
    Reset,
    Send,
    StartBilling,
    Steps,
)

_NO_LINGER = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")


class PeerDisconnectedError(Exception):
    pass


class PlayResult:
    """Hold what was sent; `ended` is complete, reset, closed, or left (by the peer)."""

    def __init__(self) -> None:
        self.input_tokens: int | None = None
        self.output_tokens = 0
        self.usage_stated = False
        self.sent_bytes = 0
        self.ended = "complete"

    def describe(self) -> dict[str, Any]:
        """Return the log fields. `sold` is what an honest provider charges for what was sent, None
        where it did not begin; `told` says whether the answer stated exactly that.
        """
        sold = None
        if self.input_tokens is not None:
            sold = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        return {
            "sold": sold,
            "told": self.usage_stated,
            "sent_bytes": self.sent_bytes,
            "ended": self.ended,
        }


class ScriptPlayer:
    """Play scripts on one connection, one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.requests = 0

    async def play(self, steps: Steps) -> PlayResult:
        """Perform every step in turn, until one ends the connection or the peer leaves."""
        result = PlayResult()
        try:
            for step in steps:
                await self._perform(step, result)
                if result.ended != "complete":
                    break
        except (PeerDisconnectedError, OSError):
            result.ended = "left"
        return result

    async def _perform(self, step: object, result: PlayResult) -> None:
        match step:
            case StartBilling():
                result.input_tokens = step.input_tokens
            case Send():
                await self._write(step.data, result)
                result.output_tokens += step.tokens
                result.usage_stated = result.usage_stated or step.states_usage
            case Repeat():
                for _ in range(step.times):
                    await self._write(step.data, result)
            case Pause():
                await self._wait(step.seconds)
            case Reset():
                self._reset()
                result.ended = "reset"
            case Close():
                result.ended = "closed"
            case _:
                raise TypeError(f"{step} is not a step")

    async def _write(self, data: bytes, result: PlayResult) -> None:
        if self._writer.is_closing():
            raise PeerDisconnectedError
        self._writer.write(data)
        result.sent_bytes += len(data)
        await self._writer.drain()

    async def _wait(self, seconds: float) -> None:
        # A read is the only way to notice that the peer leaves while nothing is sent.
        try:
            async with asyncio.timeout(seconds):
                if await self._reader.read(1) == b"":
                    raise PeerDisconnectedError
        except TimeoutError:
            pass

    def _reset(self) -> None:
        # Without lingering the kernel sends RST instead of FIN and drops what is queued.
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._writer.transport.abort()
