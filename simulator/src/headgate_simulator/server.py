"""The simulator as a server on one port, inside another program or alone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headgate.kit.process.listener import open_listeners
from headgate_simulator.app import build_app
from headgate_simulator.delivery import CUT
from headgate_simulator.settings import SimulatorSettings

KEEP_ALIVE_SECONDS = 75


class _Protocol(HttpToolsProtocol):
    """Let the application close the connection in the middle of an answer."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # ASGI has no way to close a connection in the middle of an answer.
        self.scope[CUT] = self.transport.close  # type: ignore[typeddict-unknown-key]


class _Server(uvicorn.Server):
    """Leave signals to the surrounding program, and report when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class RunningSimulator:
    """Represent a simulator that answers at `address` (such as `http://127.0.0.1:4601`) until
    `stop`.
    """

    def __init__(self, server: uvicorn.Server, task: asyncio.Task[None], address: str) -> None:
        self._server = server
        self._task = task
        self.address = address

    async def wait(self) -> None:
        """Return when the simulator has ended."""
        await asyncio.shield(self._task)

    async def stop(self) -> None:
        """End the simulator and cut open answers. Idempotent."""
        self._server.should_exit = True
        await self._task


async def start(
    host: str, port: int, *, settings: SimulatorSettings | None = None
) -> RunningSimulator:
    """Listen and answer; port 0 picks a free one. Raise `AddressInUseError`."""
    config = uvicorn.Config(
        build_app(settings or SimulatorSettings()),
        http=_Protocol,
        ws="none",
        interface="asgi3",
        proxy_headers=False,
        lifespan="off",
        log_level="warning",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        server_header=False,
    )
    server = _Server(config)
    listeners = open_listeners(host, port, hint="HEADGATE_SIMULATOR_PORT, or --port")
    task = asyncio.create_task(server.serve(sockets=listeners))
    await server.ready.wait()
    shown = f"[{host}]" if ":" in host else host
    return RunningSimulator(server, task, f"http://{shown}:{listeners[0].getsockname()[1]}")
