"""Runs one Headgate process: opens the installation, builds the road, listens, drains, closes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import sys
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

import structlog
import uvicorn
import uvloop

from headgate.api import app as api
from headgate.gateway.protocol import EdgeProtocol
from headgate.gateway.sweeper import Sweeper
from headgate.kit.db.writer import Writer
from headgate.kit.http.client import HttpClient
from headgate.kit.settings import Settings
from headgate.main import banner, road
from headgate.main.exposure import check_exposure
from headgate.main.first_start import prepare_first_start
from headgate.main.installation import Installation, open_installation
from headgate.main.observers import Observers
from headgate.main.upkeep import Upkeep
from headgate.simulator import server as simulator

log = structlog.get_logger(__name__)


def serve(settings: Settings) -> None:
    """Serve until a signal ends it. Raises a `HeadgateError` when the start is refused."""
    check_exposure(settings)
    installation = open_installation(settings)
    try:
        first_keys = prepare_first_start(installation)
        uvloop.run(_serve(settings, installation, first_keys is not None))
    finally:
        installation.close()


async def _serve(settings: Settings, installation: Installation, is_first: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await _start_provider(settings, installation, stack)
        writer = Writer(installation.database)
        writer.start()
        stack.push_async_callback(writer.stop)
        client = HttpClient()
        stack.push_async_callback(client.close)
        server = _create_server(settings)
        observers = Observers(settings, server, client)
        observers.start()
        stack.callback(observers.stop)
        face = road.build_face(settings, installation, writer, client, observers)
        upkeep = Upkeep(settings, installation, writer, server)
        server.config.app = api.build_app(health=upkeep, render_metrics=observers.render)
        server.config.http = functools.partial(  # type: ignore[assignment]
            EdgeProtocol, face=face, limits=road.build_edge_limits(settings)
        )
        sweeper = Sweeper(server.server_state.connections)  # type: ignore[arg-type]
        await stack.enter_async_context(_running(sweeper.run(), upkeep.run()))
        if sys.stderr.isatty() or settings.simulator:
            await stack.enter_async_context(
                _running(banner.show(server, settings, is_first=is_first))
            )
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        await server.serve()


async def _start_provider(
    settings: Settings, installation: Installation, stack: contextlib.AsyncExitStack
) -> None:
    """The credential of the environment, or the simulator where there is none."""
    if settings.simulator and not settings.openai_api_key:
        running = await simulator.start("127.0.0.1", settings.simulator_port)
        stack.push_async_callback(running.stop)
        installation.attach_simulator(f"http://127.0.0.1:{settings.simulator_port}/v1")
    else:
        installation.detach_simulator()


def _create_server(settings: Settings) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            "headgate.api.app:build_app",
            host=settings.host,
            port=settings.port,
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(settings.keepalive_seconds),
            timeout_graceful_shutdown=int(settings.grace_seconds),
            backlog=2048,
            ssl_certfile=settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
        )
    )


@contextlib.asynccontextmanager
async def _running(*works: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Tasks that live as long as the block."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
