"""`headgate simulate`: the stand-in for OpenAI, alone."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
import uvloop

from headgate.simulator import server

app = typer.Typer(add_completion=False)


@app.command()
def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks one.")] = 4601,
) -> None:
    """Answer as OpenAI would; docs/simulator.md lists the faults that it shows on demand."""
    uvloop.run(_simulate(host, port))


async def _simulate(host: str, port: int) -> None:
    running = await server.start(host, port)
    typer.echo(f"The simulator (not OpenAI) answers at {running.address}/v1")
    try:
        await running.wait()
    except asyncio.CancelledError:
        await running.stop()
        raise
