"""Answers requests while the server waits for disk space at its start: alive and not ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import structlog
import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headgate.api import app as api
from headgate.data_directory.directory_lock import DATABASE_FILE, NO_ROOM
from headgate.gateway import errors
from headgate.gateway.exchange import InboundExchange
from headgate.kit.db.engine import StorageUnavailableError
from headgate.kit.db.health import RETRY_AFTER_SECONDS
from headgate.kit.errors import HeadgateError
from headgate.kit.ids import IdGenerator
from headgate.main import data_plane
from headgate.main.listening import Server, attach, create_server
from headgate.settings import Settings

PROBE_SECONDS = 1.0
PROBE_BYTES = 1 << 20
"""The least that a start writes: the log's index, a commit, the tables of a new database."""
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

log = structlog.get_logger(__name__)


class Unready:
    """Answer health checks, model calls and requests to /api before there is a database."""

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self._ids = IdGenerator()

    def check(self) -> str:
        return self._reason

    def open(self, exchange: InboundExchange) -> None:
        raise self._explain()

    async def run(self, exchange: InboundExchange) -> None:
        self.refuse(exchange, self._explain())

    def refuse(self, exchange: InboundExchange, error: HeadgateError) -> None:
        head = errors.encode_head(error, retry_after_max_seconds=RETRY_AFTER_SECONDS)
        head += b"x-request-id: %b\r\n" % self._ids.make("req").encode()
        exchange.answer(error.kind.value, head, errors.encode_body(error, exchange.target))

    async def refuse_api(self, _request: Request) -> Response:
        """Answer 503 to any request of the platform API."""
        error = self._explain()
        headers = {"retry-after": f"{RETRY_AFTER_SECONDS:.0f}"}
        body = {"detail": error.message, "code": error.code}
        return JSONResponse(body, error.kind.value, headers=headers)

    def build_app(self) -> Any:
        return api.build_app(
            health=self,
            render_metrics=lambda: b"headgate_storage_good 0.0\n",
            make_id=self._ids.make,
            platform=[Route("/api/{path:path}", self.refuse_api, methods=METHODS)],
        )

    def _explain(self) -> StorageUnavailableError:
        return StorageUnavailableError(
            f"The gateway has not started yet: {self._reason}. Nothing was sent, nothing is "
            "charged. Try again.",
            retry_after_seconds=RETRY_AFTER_SECONDS,
            should_retry=True,
        )


def explain_lack_of_room(settings: Settings, error: Exception) -> str | None:
    """Return why the start has to wait; None if it failed for another reason than a full disk."""
    if settings.database_url is not None or has_room(settings.data):
        return None
    told = f"the disk of {settings.data} is full ({error})"
    database = settings.data / DATABASE_FILE
    if not database.exists() or database.stat().st_size == 0:
        return f"{told}, and its database was never set up: the first start needs room"
    return told


def has_room(folder: Path) -> bool:
    """Tell whether `PROBE_BYTES` can be written to a folder, or to the nearest one above that
    exists. Errors other than a full disk count as room."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # Some filesystems store no blocks for zeros.
            file.write(os.urandom(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno not in NO_ROOM
    return True


def wait_for_room(settings: Settings, listeners: list[socket.socket], reason: str) -> bool:
    """Answer requests until there is room. Return False if a signal ended the server instead."""
    log.error("start.waits", reason=reason)
    return uvloop.run(_wait(settings, listeners, reason))


async def _wait(settings: Settings, listeners: list[socket.socket], reason: str) -> bool:
    unready, server = Unready(reason), create_server(settings)
    edge = data_plane.build_edge(settings, unready)
    attach(server, unready.build_app(), edge)
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
    while not await asyncio.to_thread(has_room, settings.data):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(PROBE_SECONDS)
    log.info("start.goes_on")
    server.stop_at_once()
