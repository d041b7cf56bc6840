"""`headgate backup`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json
from headgate.data_directory import backup as sqlite_backup
from headgate.data_directory.backup import BackupManifest, BackupNotAllowedError
from headgate.main.master_keys import build_source

POSTGRESQL = "headgate.data_directory.backup_postgresql"
"""Imported only when used, as its driver may not be installed."""

app = typer.Typer(add_completion=False)


@app.command()
def backup(
    path: Annotated[Path, typer.Argument(help="Folder to create for the backup.")],
    data: Data = None,
    as_json: Json = False,
    *,
    key_file: Annotated[
        Path | None,
        typer.Option(help="Also copy the master key to this new file, to be kept elsewhere."),
    ] = None,
) -> None:
    """Back up the database and the files of assets, also while a server runs. The backup excludes
    the master key."""
    with open_data_directory(data) as application:
        loaded = application.settings
    if loaded.database_url is None:
        manifest = sqlite_backup.back_up(loaded, build_source(loaded), path, key_file=key_file)
    elif key_file is None:
        manifest = importlib.import_module(POSTGRESQL).back_up(loaded, path)
    else:
        raise BackupNotAllowedError(
            "--key-file works with SQLite only; copy master.key instead, or keep its variable."
        )
    if as_json:
        typer.echo(msgspec.json.encode(manifest))
        return
    typer.echo(f"{path} is a complete copy of the database: {describe(manifest)}.")
    typer.echo(describe_assets(manifest))
    if key_file is not None:
        typer.echo(f"{key_file} holds the master key. Keep it apart from the backup.")
    else:
        typer.echo(
            "The backup does not contain the master key, without which no secret can be opened: "
            "keep a copy of the key elsewhere (--key-file, docs/backup.md)."
        )


def describe(manifest: BackupManifest) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in manifest.rows.items())
    return f"{counts}; {manifest.file.bytes} bytes, SHA-256 {manifest.file.sha256}"


def describe_assets(manifest: BackupManifest) -> str:
    """Return what is said of the files of assets in a backup."""
    assets = manifest.assets
    if assets is None:
        return "The files of assets are not in the backup: they are in a bucket, or it is older."
    missing = f" {assets.missing} more are missing or damaged." if assets.missing else ""
    return f"It has the files of {assets.files} assets, {assets.bytes} bytes.{missing}"
