"""The fault line as a running thing: its ports, its connections, its log."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from headgate.kit.listener import open_listeners
from headgate_simulator.fault_line import answer, request
from headgate_simulator.fault_line.player import Played, Player
from headgate_simulator.fault_line.request import HEAD_BYTES_MAX, Request
from headgate_simulator.fault_line.steps import Asked, Script, Steps
from headgate_simulator.fault_line.traps import Blackhole, Refusing, make_self_signed

MAIN, ELSEWHERE, SELF_SIGNED = "main", "elsewhere", "self_signed"
TAGS_MAX = 100_000

Log = Callable[[dict[str, Any]], None]


class FaultLine:
    """Answers on `main` until `stop`. Every request that ends is one entry of the log.

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
        self._refusing = Refusing(host)
        self._blackhole = Blackhole(host)
        self.addresses: dict[str, str] = {}

    async def start(self, port: int) -> None:
        """Listen; port 0 picks one. Raises `AddressInUseError`."""
        (listener, *_) = open_listeners(self._host, port, hint="--port")
        await self._listen(MAIN, listener)
        for place, tls in ((ELSEWHERE, None), (SELF_SIGNED, make_self_signed())):
            (listener, *_) = open_listeners(self._host, 0, hint="--port")
            await self._listen(place, listener, tls)
        self.addresses["refused"] = f"http://{self._host}:{self._refusing.port}"
        self.addresses["blackhole"] = f"http://{self._host}:{self._blackhole.port}"
        self._log({"event": "ready", **self.addresses})

    async def stop(self) -> None:
        """Close every port and connection."""
        for server in self._servers:
            server.close()
        for writer in list(self._open):
            writer.transport.abort()
        self._refusing.close()
        self._blackhole.close()

    async def wait(self) -> None:
        """Serve for ever."""
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
        player = Player(reader, writer)
        try:
            while (asked := await request.read(reader)) is not None:
                player.requests += 1
                played = await self._answer(place, number, asked, player)
                if played.ended != "complete":
                    break
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, place: str, number: int, asked: Request, player: Player) -> Played:
        script, question, steps = self._plan(asked)
        attempt = self._count(asked.tag)
        played = await player.play(steps)
        self._log(
            {
                "event": "request",
                "place": place,
                "connection": number,
                "request": player.requests,
                "attempt": attempt,
                "tag": asked.tag,
                "script": script.name if script else None,
                "method": asked.method,
                "target": asked.target,
                "wire": question.wire,
                "streams": question.streams,
                "model": asked.model,
                **played.describe(),
            }
        )
        return played

    def _plan(self, asked: Request) -> tuple[Script | None, Asked, Steps]:
        try:
            script, question = request.find_fault(asked)
        except ValueError as error:
            body = msgspec.json.encode({"error": {"message": str(error), "code": "unknown_fault"}})
            return None, Asked("raw", False, b"", {}), answer.refuse(400, body=body)
        question.elsewhere = self.addresses[ELSEWHERE]
        return script, question, script.play(question)

    def _count(self, tag: str | None) -> int:
        """Which attempt of its call this is, as far as the call has a name."""
        if tag is None:
            return 1
        if len(self._attempts) >= TAGS_MAX:
            self._attempts.clear()
        self._attempts[tag] += 1
        return self._attempts[tag]
