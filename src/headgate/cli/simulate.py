"""`headgate simulate`: the stand-in for OpenAI, alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import uvloop

from headgate.main.simulator import load_simulator

app = typer.Typer(add_completion=False)


@app.command()
def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = 4601,
    faults: Annotated[
        bool, typer.Option(help="Fail byte for byte as each request asks, instead of answering.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(help="With --faults: write one JSON line per request here, not to stdout."),
    ] = None,
) -> None:
    """Run the simulator of OpenAI alone (pip install headgate-simulator).

    docs/simulator.md lists the faults that it shows on demand.
    """
    if log is not None and not faults:
        raise typer.BadParameter("only --faults writes a log.", param_hint="--log")
    simulator = load_simulator()
    stdout = typer.get_text_stream("stdout")
    if not faults:
        uvloop.run(simulator.simulate(host, port, stdout))
    elif log is None:
        uvloop.run(simulator.fail(host, port, stdout))
    else:
        with log.open("a") as stream:
            uvloop.run(simulator.fail(host, port, stream))
