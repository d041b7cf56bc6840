"""The fault server: its ports, its connections, its log."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from headgate.kit.process.listener import open_listeners
from headgate_simulator.fault_server import parsing, response
from headgate_simulator.fault_server.parsing import HEAD_BYTES_MAX, ReceivedRequest
from headgate_simulator.fault_server.player import PlayResult, ScriptPlayer
from headgate_simulator.fault_server.ports import BlackholePort, ClosedPort, make_self_signed
from headgate_simulator.fault_server.steps import FaultRequest, Script, Steps

MAIN, ELSEWHERE, SELF_SIGNED = "main", "elsewhere", "self_signed"
TAGS_MAX = 100_000

Log = Callable[[dict[str, Any]], None]


class FaultServer:
    """Answer on `main` until `stop`, and log every request that ends.

    `addresses` has the ports by what they do: main; elsewhere, to which redirects point and where
    nobody should come; self_signed (TLS); refused; blackhole.
    """

    def __init__(self, host: str, log: Log) -> None:
        self._host = host
        self._log = log
        self._numbers = itertools.count(1)
        self._attempts: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._closed_port = ClosedPort(host)
        self._blackhole = BlackholePort(host)
        self.addresses: dict[str, str] = {}

    async def start(self, port: int) -> None:
        """Listen; port 0 picks a free one. Raise `AddressInUseError`."""
        (listener, *_) = open_listeners(self._host, port, hint="--port")
        await self._listen(MAIN, listener)
        for place, tls in ((ELSEWHERE, None), (SELF_SIGNED, make_self_signed())):
            (listener, *_) = open_listeners(self._host, 0, hint="--port")
            await self._listen(place, listener, tls)
        self.addresses["refused"] = f"http://{self._host}:{self._closed_port.port}"
        self.addresses["blackhole"] = f"http://{self._host}:{self._blackhole.port}"
        self._log({"event": "ready", **self.addresses})

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for writer in list(self._open):
            writer.transport.abort()
        self._closed_port.close()
        self._blackhole.close()

    async def wait(self) -> None:
        """Serve until cancelled."""
        await asyncio.gather(*(server.serve_forever() for server in self._servers))

    async def _listen(
        self, place: str, listener: socket.socket, tls: ssl.SSLContext | None = None
    ) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(place, reader, writer)

        server = await asyncio.start_server(
            serve, sock=listener, ssl=tls, limit=HEAD_BYTES_MAX, start_serving=True
        )
        self._servers.append(server)
        scheme = "https" if tls else "http"
        self.addresses[place] = f"{scheme}://{self._host}:{listener.getsockname()[1]}"

    async def _serve(
        self, place: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._open.add(writer)
        number = next(self._numbers)
        player = ScriptPlayer(reader, writer)
        try:
            while (received := await parsing.read(reader)) is not None:
                player.requests += 1
                result = await self._answer(place, number, received, player)
                if result.ended != "complete":
                    break
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(
        self, place: str, number: int, received: ReceivedRequest, player: ScriptPlayer
    ) -> PlayResult:
        script, request, steps = self._plan(received)
        attempt = self._count(received.tag)
        result = await player.play(steps)
        self._log(
            {
                "event": "request",
                "place": place,
                "connection": number,
                "request": player.requests,
                "attempt": attempt,
                "tag": received.tag,
                "script": script.name if script else None,
                "method": received.method,
                "target": received.target,
                "wire": request.wire,
                "streams": request.streams,
                "model": received.model,
                **result.describe(),
            }
        )
        return result

    def _plan(self, received: ReceivedRequest) -> tuple[Script | None, FaultRequest, Steps]:
        try:
            script, request = parsing.find_fault(received)
        except ValueError as error:
            body = msgspec.json.encode({"error": {"message": str(error), "code": "unknown_fault"}})
            return None, FaultRequest("raw", False, b"", {}), response.send_error(400, body=body)
        request.elsewhere = self.addresses[ELSEWHERE]
        return script, request, script.play(request)

    def _count(self, tag: str | None) -> int:
        """Return the number of this attempt of its call; 1 where the call has no tag."""
        if tag is None:
            return 1
        # Bounded for long runs; a tag that is counted anew starts at attempt 1.
        if len(self._attempts) >= TAGS_MAX:
            self._attempts.clear()
        self._attempts[tag] += 1
        return self._attempts[tag]
