"""`headgate serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.data_directory import load_settings
from headgate.cli.options import Data
from headgate.kit.process import hardening
from headgate.main import server
from headgate.settings import SECRETS, variable_of

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    data: Data = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default 4600).")] = None,
    *,
    ssl_certfile: Annotated[Path | None, typer.Option(help="PEM certificate chain.")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="PEM private key.")] = None,
    allow_public_without_tls: Annotated[
        bool | None,
        typer.Option(
            "--allow-public-without-tls",
            help="Allow a public address without TLS, behind a proxy that has TLS.",
        ),
    ] = None,
    simulator: Annotated[
        bool | None,
        typer.Option(
            "--simulator",
            help="Answer calls by the simulator while there is no OPENAI_API_KEY; "
            "needs pip install headgate-simulator.",
        ),
    ] = None,
) -> None:
    """Run the server until a signal stops it. docs/configuration.md lists all settings."""
    loaded = load_settings(
        data,
        host=host,
        port=port,
        ssl_certfile=None if ssl_certfile is None else str(ssl_certfile),
        ssl_keyfile=None if ssl_keyfile is None else str(ssl_keyfile),
        allow_public_without_tls=allow_public_without_tls,
        simulator=simulator,
    )
    hardening.erase_variables(map(variable_of, SECRETS))
    if not loaded.allow_debugging:
        hardening.deny_inspection()
    server.serve(loaded)
