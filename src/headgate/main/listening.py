"""The HTTP server of a process, before it has handlers."""

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
"""Time-out for settling the calls that a stop cuts."""


class Server(uvicorn.Server):
    """Drain at the first signal and stop at the second; both are clean exits."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Override uvicorn, which would raise the signal again before anything is closed."""
        self.force_exit = self.should_exit
        self.should_exit = True

    def stop_at_once(self) -> None:
        """Take no more calls and cut running ones: nothing can be recorded any more."""
        self.should_exit = self.force_exit = True

    async def end_calls(self) -> None:
        """Cut the calls that outlived the grace, and let them settle."""
        tasks = self.server_state.tasks
        for task in tasks:
            if not task.cancelling():
                task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=SETTLE_SECONDS)


def create_server(settings: Settings) -> Server:
    """Create the server of these settings; `attach` sets what it answers with."""
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
    """Let the handler of the edge answer below `/v1`, and an ASGI application the rest."""
    server.config.app = app if edge.cors is None else CorsMiddleware(app, edge.cors)
    server.config.http = functools.partial(EdgeProtocol, edge=edge)  # type: ignore[assignment]
