"""The commands of `headgate vault`: show, check and replace the keys that seal all secrets."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import sqlalchemy as sa
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table
from headgate.kit import failpoint
from headgate.main.application import Application
from headgate.main.master_keys import build_source
from headgate.settings import FAILPOINTS
from headgate.vault.jobs import Rotator
from headgate.vault.model.keys import (
    EVERY_KEY,
    PLATFORM_KEY,
    Rotation,
    RotationConflictError,
)
from headgate.vault.service import Rotations, find_unreadable_rows
from headgate.vault.service.master_key import (
    LocalMasterKey,
    LocalSource,
    RemoteSource,
    read_or_create,
)

Provider = Literal["local", "aws-kms", "gcp-kms", "transit"]
Finish = Callable[[], None]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Show, check and replace the keys that seal all secrets.",
)


@app.command()
def status(data: Data = None, as_json: Json = False) -> None:
    """Show master keys, organization keys with the number of rows under each, and rotations."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        vault_status = _open_rotations(application, connection).describe(connection)
    if as_json:
        masters = [
            {"id": each.id, "provider": each.provider, "name": each.key_name, "state": each.state}
            for each in vault_status.master_keys
        ]
        output = {
            "master_keys": masters,
            "keys": vault_status.keys,
            "rotations": vault_status.rotations,
        }
        typer.echo(msgspec.json.encode(output))
        return
    masters_table = Table("Master key", "Kept by", "State", "Since", "Seals")
    for each in vault_status.master_keys:
        kept_by = each.provider if each.key_name is None else f"{each.provider} ({each.key_name})"
        since = format_time(each.retired_at or each.created_at)
        masters_table.add_row(each.id, kept_by, each.state.value, since, str(each.seals))
    keys_table = Table("Organization key", "Of", "Rows", "Seals", "State")
    for key in vault_status.keys:
        state = "retired" if key.is_retired else "worn: rotate" if key.is_worn else "in use"
        state = state if key.opens else "does not open"
        owner = key.organization_id or PLATFORM_KEY
        keys_table.add_row(key.id, owner, str(key.rows), str(key.seals), state)
    rotations_table = Table("Rotation", "Of", "State", "Done", "Not opened", "Began")
    for rotation in vault_status.rotations:
        rotations_table.add_row(
            f"{rotation.id} ({rotation.kind.value})",
            rotation.scope,
            rotation.state.value,
            f"{rotation.done} of {rotation.total}",
            str(rotation.failed),
            format_time(rotation.started_at),
        )
    for table in (masters_table, keys_table, rotations_table):
        print_table(table)


@app.command()
def check(data: Data = None, as_json: Json = False) -> None:
    """Open every seal once and name those that do not open. Exit with 1 if there are any."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        unreadable_rows = find_unreadable_rows(connection, application.unlock(connection).sealer)
    if as_json:
        typer.echo(msgspec.json.encode(unreadable_rows))
    for row in unreadable_rows if not as_json else ():
        typer.echo(f"{row.table}: {row.credential_id} ({row.name}): {row.reason}.")
    if unreadable_rows:
        raise typer.Exit(1)
    if not as_json:
        typer.echo("Every seal opens.")


@app.command("rotate-master")
def rotate_master(
    data: Data = None,
    *,
    to_file: Annotated[
        Path | None, typer.Option(help="File of the new key; created if it does not exist.")
    ] = None,
    to_provider: Annotated[
        Provider | None, typer.Option(help="Key service of the new key. Default: the current one.")
    ] = None,
    to_name: Annotated[
        str | None, typer.Option(help="Name of the key there. Default: HEADGATE_MASTER_KEY_NAME.")
    ] = None,
    to_address: Annotated[
        str | None,
        typer.Option(help="Address of the key service. Default: HEADGATE_MASTER_KEY_ADDRESS."),
    ] = None,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Cancel the running rotation of the master key.")
    ] = False,
) -> None:
    """Replace the master key. A server may run meanwhile.

    An interrupted rotation continues when the same command is run again. Both keys are needed until
    it ends; see docs/vault.md for the steps.
    """
    with open_data_directory(data) as application:
        failpoint.arm(
            application.settings.failpoint,
            FAILPOINTS,
            test_mode=application.settings.test_mode,
        )
        if abandon:
            with application.database.transaction() as connection:
                taken = _open_rotations(application, connection).abandon_master(
                    connection, by=COMMAND_LINE
                )
            typer.echo(f"The rotation to {taken.scope} is cancelled. The current key stays active.")
            return
        changes = {
            "master_key_provider": to_provider,
            "master_key_name": to_name,
            "master_key_address": to_address,
        }
        key_service_options = {name: value for name, value in changes.items() if value is not None}
        target, finish, message = _open_target(application, to_file, key_service_options)
        failed: int | None = None
        with _open_rotator(application, target) as rotator:
            failed = None if rotator is None else rotator.rotate_master(target, by=COMMAND_LINE)
        finish()
    if failed is None:
        typer.echo(f"The master key {target.id} is active already.")
        return
    typer.echo(f"The master key {target.id} is active now. {message}")
    _report_failed(failed, "organization keys")


@app.command("rotate-keys")
def rotate_keys(
    data: Data = None,
    *,
    organization: Annotated[
        str | None,
        typer.Option(help="Id or name of one organization, or `platform`. Default: all."),
    ] = None,
) -> None:
    """Seal all secrets again under new organization keys, and delete the old keys.

    A server may run meanwhile. An interrupted rotation continues when the command is run again.
    """
    with open_data_directory(data) as application:
        failpoint.arm(
            application.settings.failpoint,
            FAILPOINTS,
            test_mode=application.settings.test_mode,
        )
        scope = organization or EVERY_KEY
        if scope not in (EVERY_KEY, PLATFORM_KEY):
            with application.database.reading() as connection:
                scope = application.accounts.find_organization(connection, scope).id
        with _open_rotator(application, None) as rotator:
            assert rotator is not None, "a rotation of organization keys needs no other key"
            failed = rotator.rotate_keys(scope, by=COMMAND_LINE)
    typer.echo("0 rows are under an old key." if not failed else "The rotation has ended.")
    _report_failed(failed, "rows")


def _report_failed(failed: int, what: str) -> None:
    if failed:
        typer.echo(
            f"{failed} {what} do not open and were left unchanged. Run: headgate vault check"
        )
        raise typer.Exit(1)


def _open_rotations(application: Application, connection: sa.Connection) -> Rotations:
    return application.unlock(connection).rotations


def _open_target(
    application: Application, path: Path | None, key_service_options: dict[str, Any]
) -> tuple[LocalMasterKey, Finish, str]:
    """Return the new key, the action that follows its activation, and the message to show then."""
    if path is not None:
        if key_service_options:
            raise RotationConflictError(
                "Give --to-file, or the options of a key service, not both."
            )
        message = f"Start servers with it from now on: it is in {path}."
        return read_or_create(path), _do_nothing, message
    given = application.settings
    changed = msgspec.structs.replace(given, **key_service_options)
    source = build_source(changed)
    if isinstance(source, RemoteSource):
        with application.database.reading() as connection:
            key = source.find_pending(connection) or source.create()
        message = f"Start servers with HEADGATE_MASTER_KEY_PROVIDER={source.provider} from now on."
        is_same = changed.master_key_name == given.master_key_name
        message = message if changed.master_key_provider != given.master_key_provider else ""
        named = f" HEADGATE_MASTER_KEY_NAME={changed.master_key_name}"
        return key, _do_nothing, message + ("" if is_same else f"{named} is its name.")
    if not source.is_file:
        raise RotationConflictError(
            "The current master key is in HEADGATE_MASTER_KEY, which no command can change: give "
            "a file for the new one with --to-file, or a key service with --to-provider."
        )
    return _stage_in_place(source)


def _stage_in_place(source: LocalSource) -> tuple[LocalMasterKey, Finish, str]:
    message = (
        "It replaces the old key's file, which is kept beside it for older backups; running "
        "servers load it by themselves."
    )
    return source.stage(), source.commit_staged, message


def _do_nothing() -> None:
    pass


@contextlib.contextmanager
def _open_rotator(
    application: Application, target: LocalMasterKey | None
) -> Generator[Rotator | None]:
    """Open a rotator with a progress bar; None if the target is active already.

    In that case the old key may be gone, so nothing else may be opened with it.
    """

    def commit(work: Callable[[sa.Connection], Any]) -> Any:
        with application.database.transaction() as connection:
            return work(connection)

    with application.database.reading() as connection:
        if target is not None and Rotations.is_active(connection, target):
            yield None
            return
        rotations = _open_rotations(application, connection)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("rows resealed" if target is None else "keys rewrapped")

        def show_progress(rotation: Rotation) -> None:
            bar.update(task, completed=rotation.done, total=rotation.total)

        yield Rotator(
            rotations, reading=application.database.reading, commit=commit, report=show_progress
        )
