"""The entry points that the gateway calls: beside a server, or alone until interrupted."""

from __future__ import annotations

import asyncio
from typing import Any, TextIO

import msgspec

from headgate_simulator import server
from headgate_simulator.fault_server.server import FaultServer

start = server.start


async def simulate(host: str, port: int, stream: TextIO) -> None:
    """Answer as OpenAI would until cancelled, and write the address to `stream`."""
    running = await server.start(host, port)
    stream.write(f"The simulator (not OpenAI) answers at {running.address}/v1\n")
    stream.flush()
    try:
        await running.wait()
    except asyncio.CancelledError:
        await running.stop()
        raise


async def fail(host: str, port: int, stream: TextIO) -> None:
    """Run the fault server until cancelled, and write one line of JSON to `stream` per request."""

    def log(entry: dict[str, Any]) -> None:
        stream.write(msgspec.json.encode(entry).decode() + "\n")
        stream.flush()

    fault_server = FaultServer(host, log)
    await fault_server.start(port)
    try:
        await fault_server.wait()
    finally:
        await fault_server.stop()
