"""`headgate simulate`: the stand-in for OpenAI, alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, TextIO

import msgspec
import typer
import uvloop

from headgate.simulator import server
from headgate.simulator.fault_line.server import FaultLine

app = typer.Typer(add_completion=False)


@app.command()
def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks one.")] = 4601,
    faults: Annotated[
        bool, typer.Option(help="Fail byte for byte as each request asks, instead of answering.")
    ] = False,
    log: Annotated[
        Path | None, typer.Option(help="With --faults: a JSON line for each request, not stdout.")
    ] = None,
) -> None:
    """Answer as OpenAI would; docs/simulator.md lists the faults that it shows on demand."""
    if log is not None and not faults:
        raise typer.BadParameter("only --faults writes a log.", param_hint="--log")
    if not faults:
        uvloop.run(_simulate(host, port))
    elif log is None:
        uvloop.run(_fail(host, port, typer.get_text_stream("stdout")))
    else:
        with log.open("a") as stream:
            uvloop.run(_fail(host, port, stream))


async def _simulate(host: str, port: int) -> None:
    running = await server.start(host, port)
    typer.echo(f"The simulator (not OpenAI) answers at {running.address}/v1")
    try:
        await running.wait()
    except asyncio.CancelledError:
        await running.stop()
        raise


async def _fail(host: str, port: int, stream: TextIO) -> None:
    def log(entry: dict[str, Any]) -> None:
        stream.write(msgspec.json.encode(entry).decode() + "\n")
        stream.flush()

    line = FaultLine(host, log)
    await line.start(port)
    try:
        await line.wait()
    finally:
        await line.stop()
