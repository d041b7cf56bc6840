"""`headgate restore`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headgate.cli.backup import POSTGRESQL, describe, describe_assets
from headgate.cli.data_directory import load_settings
from headgate.cli.options import Data
from headgate.data_directory import backup
from headgate.data_directory.backup import BackupNotAllowedError
from headgate.main.master_keys import build_source

app = typer.Typer(add_completion=False)


@app.command()
def restore(
    path: Annotated[Path, typer.Argument(help="Folder created by `headgate backup`.")],
    data: Data = None,
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Move an existing database aside.")
    ] = False,
    key_file: Annotated[
        Path | None, typer.Option(help="File of the master key, if DIR/master.key is missing.")
    ] = None,
) -> None:
    """Check a backup and restore its database. Stop the server of the data directory first."""
    loaded = load_settings(data)
    if loaded.database_url is not None:
        if replace or key_file is not None:
            raise BackupNotAllowedError(
                "--replace and --key-file work with SQLite only; see docs/backup.md."
            )
        manifest = importlib.import_module(POSTGRESQL).restore(loaded, path)
        typer.echo(f"The backup {path} is restored: {describe(manifest)}.")
        return
    done = backup.restore(loaded, build_source(loaded), path, replace=replace, key_file=key_file)
    typer.echo(f"The backup {path} is restored into {loaded.data}: {describe(done.manifest)}.")
    if done.assets is not None:
        typer.echo(describe_assets(msgspec.structs.replace(done.manifest, assets=done.assets)))
    if done.replaced is not None:
        typer.echo(
            f"The former database is now {done.replaced}; delete it when it is no longer needed."
        )
    if done.needs_key:
        typer.echo(
            f"The master key is missing: copy it to {loaded.data}/master.key (mode 0600), or set "
            "HEADGATE_MASTER_KEY. No server starts without it."
        )
    typer.echo(
        "Keys that were revoked and people who were disabled after the backup are active again: "
        "check them."
    )
