"""Serves health checks and errors while the start waits for disk space."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from typing import Any

import msgspec
import structlog
import uvloop

from headgate.api import app as api
from headgate.api.unavailable import build_unavailable_routes
from headgate.data_directory.disk_space import has_room
from headgate.gateway.unavailable import UnavailableHandler
from headgate.kit.db.engine import StorageUnavailableError
from headgate.kit.db.health import RETRY_AFTER_SECONDS
from headgate.kit.ids import IdGenerator
from headgate.main import data_plane
from headgate.main.listening import Server, attach, create_server
from headgate.settings import Settings

PROBE_SECONDS = 1.0

log = structlog.get_logger(__name__)


class NotStarted(msgspec.Struct, frozen=True):
    """Report that the server is not ready (`api.app.ReadinessCheck`)."""

    reason: str

    def check(self) -> str:
        return self.reason


def wait_for_room(settings: Settings, listeners: list[socket.socket], reason: str) -> bool:
    """Answer requests until there is room. Return False if a signal ended the server instead."""
    log.error("start.waiting_for_disk", reason=reason)
    return uvloop.run(_wait(settings, listeners, reason))


async def _wait(settings: Settings, listeners: list[socket.socket], reason: str) -> bool:
    make_id = IdGenerator().make
    make_error = functools.partial(
        StorageUnavailableError,
        f"The gateway has not started yet: {reason}. Nothing was sent, nothing is charged. "
        "Try again.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
        should_retry=True,
    )
    handler = UnavailableHandler(make_error, make_id, retry_after_max_seconds=RETRY_AFTER_SECONDS)
    app = api.build_app(
        health=NotStarted(reason),
        render_metrics=lambda: b"headgate_storage_good 0.0\n",
        make_id=make_id,
        platform=build_unavailable_routes(make_error(), RETRY_AFTER_SECONDS),
    )
    server = create_server(settings)
    edge = data_plane.build_edge(settings, handler)
    attach(server, app, edge)
    connections: Any = server.server_state.connections
    watch = asyncio.create_task(edge.run(connections))
    probe = asyncio.create_task(_stop_when_there_is_room(settings, server))
    # The server closes its sockets when it ends; the start needs these again.
    await server.serve(sockets=[listener.dup() for listener in listeners])
    is_found = probe.done()
    for task in (watch, probe):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return is_found


async def _stop_when_there_is_room(settings: Settings, server: Server) -> None:
    while not await asyncio.to_thread(has_room, settings.data):  # noqa: ASYNC110 - the kernel sends no event
        await asyncio.sleep(PROBE_SECONDS)
    log.info("start.resumed")
    server.stop_at_once()
