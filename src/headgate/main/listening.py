"""The HTTP server of a process, before it has anything to answer with."""

from __future__ import annotations

import asyncio
import functools
from types import FrameType
from typing import Any

import uvicorn

from headgate.gateway.cors import CorsMiddleware
from headgate.gateway.edge import Edge
from headgate.gateway.protocol import EdgeProtocol
from headgate.settings import Settings

SETTLE_SECONDS = 5.0
"""For the calls that a stop has cut off to be settled."""


class Server(uvicorn.Server):
    """Stops in peace at the first signal and at once at the second; either is a good end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn, which would raise the signal again before anything is closed."""
        self.force_exit = self.should_exit
        self.should_exit = True

    def stop_at_once(self) -> None:
        """Take no more calls and cut those that run: nothing can be recorded any more."""
        self.should_exit = self.force_exit = True

    async def end_calls(self) -> None:
        """Cut off the calls that are left after the grace, and let them settle."""
        tasks = self.server_state.tasks
        for task in tasks:
            if not task.cancelling():
                task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=SETTLE_SECONDS)


def create_server(settings: Settings) -> Server:
    """The server of these settings; `attach` gives it something to answer with."""
    return Server(
        uvicorn.Config(
            "headgate.api.app:build_app",
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(settings.keepalive_seconds),
            timeout_graceful_shutdown=settings.grace_seconds,  # type: ignore[arg-type]
            ssl_certfile=settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
        )
    )


def attach(server: Server, app: Any, edge: Edge) -> None:
    """Have the edge's handler answer below `/v1`, and an ASGI application everything else."""
    server.config.app = app if edge.cors is None else CorsMiddleware(app, edge.cors)
    server.config.http = functools.partial(EdgeProtocol, edge=edge)  # type: ignore[assignment]
