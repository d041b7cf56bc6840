"""`headgate doctor`: looks at everything a server needs, and says what to do about the rest."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from headgate import settings
from headgate.billing.service import ledger as billing
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table
from headgate.credentials.model.credential import CredentialRecord, find_purpose
from headgate.data_directory import asset_copies, directory_lock
from headgate.data_directory.assets import build_storage_config
from headgate.keys.service import TOPIC as KEYS_TOPIC
from headgate.kit.db import sqlite
from headgate.kit.db.schema import read_revisions, read_time
from headgate.kit.errors import HeadgateError
from headgate.kit.http.client import HttpClient
from headgate.kit.http.errors import EgressError, ForbiddenAddressError
from headgate.kit.http.message import Origin, Request, Timeouts
from headgate.main.application import Application, DataDirectoryNotFoundError
from headgate.main.egress import open_client
from headgate.main.first_start import SIMULATOR_NAME
from headgate.settings import Settings
from headgate.vault.model.base_url import parse_base_url
from headgate.vault.model.keys import (
    RotationKind,
    RotationState,
)
from headgate.vault.model.sealed_row import UnreadableRow
from headgate.vault.service import VaultStatus, find_unreadable_rows

REACH_SECONDS = 5.0
CLOCK_SLACK_SECONDS = 60.0
YEARS = (1_760_000_000.0, 4_102_444_800.0)
"""From the release of this code to the year 2100: a clock outside is set wrong."""

app = typer.Typer(add_completion=False)


class Finding(msgspec.Struct, frozen=True):
    """Hold one line of the report: `level` is ok, warn or fail."""

    level: str
    subject: str
    text: str


@app.command()
def doctor(data: Data = None, as_json: Json = False) -> None:
    """Check configuration, data, database, master key, clock and providers."""
    findings = list(_examine(data))
    if as_json:
        typer.echo(msgspec.json.encode(findings))
    else:
        colours = {"ok": "green", "warn": "yellow", "fail": "red"}
        table = Table("", "What", "Finding")
        for finding in findings:
            level = Text(finding.level, style=colours[finding.level])
            table.add_row(level, finding.subject, finding.text)
        print_table(table)
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


def _examine(data: Data) -> Iterator[Finding]:
    try:
        loaded = settings.load(os.environ, data=data)
    except HeadgateError as error:
        yield Finding("fail", "configuration", error.message)
        return
    yield Finding("ok", "configuration", "valid")
    yield _examine_directory(loaded)
    yield _examine_server(loaded)
    if not loaded.database_url:
        yield _examine_sqlite()
    try:
        with open_data_directory(data) as application:
            yield from _examine_database(application)
            yield from _examine_secrets(application)
            yield _examine_assets(application)
    except HeadgateError as error:
        level = "warn" if isinstance(error, DataDirectoryNotFoundError) else "fail"
        yield Finding(level, "database", error.message)


def _examine_server(loaded: Settings) -> Finding:
    server = directory_lock.find_server(loaded)
    if server is None:
        return Finding("ok", "server", "no server runs on this data directory on this machine")
    text = f"process {server.pid} has been running since {format_time(server.started_at)} UTC"
    if server.simulator:
        text += f", with the simulator on port {server.simulator_port}"
    return Finding("ok", "server", f"{text}; providers are checked with its settings")


def _examine_directory(loaded: Settings) -> Finding:
    path = loaded.data
    if not path.exists():
        return Finding(
            "warn", "data directory", f"{path} does not exist; the first start creates it."
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        text = f"{path} cannot be written; give it to the user who runs Headgate."
        return Finding("fail", "data directory", text)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        text = f"Other users can read {path} (mode {mode:04o}). Run: chmod 700 {path}"
        return Finding("warn", "data directory", text)
    return Finding("ok", "data directory", f"{path} is writable and private")


def _examine_sqlite() -> Finding:
    text = f"{sqlite.VERSION}, journal mode {sqlite.JOURNAL_MODE}"
    if sqlite.WAL_SAFE:
        return Finding("ok", "SQLite", text)
    safe_version = ".".join(map(str, sqlite.WAL_SAFE_VERSION))
    return Finding(
        "warn", "SQLite", f"{text}; SQLite {safe_version} or later allows the faster WAL mode"
    )


def _examine_database(application: Application) -> Iterator[Finding]:
    with application.database.reading() as connection:
        damage, description = application.database.dialect.examine(connection)
        revisions = read_revisions(connection)
        newest = max((key.created_at for key in application.keys.list(connection)), default=0.0)
    if damage is not None:
        text = f"damaged: {damage}. Stop the server and restore the last backup."
        yield Finding("fail", "database", text)
    else:
        count = revisions.get(KEYS_TOPIC, 0)
        yield Finding("ok", "database", f"sound; {description}; {count} changes of keys")
    if isinstance(application.database.place, Path):
        yield _examine_wal(application)
    with application.database.reading() as connection:
        faults = billing.find_inconsistencies(connection)
    for fault in faults:
        yield Finding("fail", "ledger", f"{fault} Keep the database unchanged and report this.")
    if not faults:
        yield Finding("ok", "ledger", "every transaction and every balance is consistent")
    yield _examine_clock(application, newest)


def _examine_wal(application: Application) -> Finding:
    length, alarm = application.database.wal_bytes, application.settings.wal_alarm_bytes
    if length <= alarm:
        return Finding("ok", "write-ahead log", f"{length} bytes")
    text = f"{length} bytes, more than {alarm}: a program keeps a read transaction open."
    return Finding(
        "warn", "write-ahead log", f"{text} Find it with: lsof {application.database.path}"
    )


def _examine_clock(application: Application, newest: float) -> Finding:
    now = application.clock.now()
    if not YEARS[0] < now < YEARS[1]:
        return Finding(
            "fail", "clock", f"{now:.0f} seconds since 1970 is not plausible; set the clock."
        )
    if newest > now + CLOCK_SLACK_SECONDS:
        text = f"The clock is {newest - now:.0f} s behind the creation of the newest key; set it."
        return Finding("fail", "clock", text)
    with application.database.reading() as connection:
        last = read_time(connection)
    if last > now + CLOCK_SLACK_SECONDS:
        text = f"The clock is {last - now:.0f} s behind the latest time in the database; set it. "
        return Finding("fail", "clock", f"{text}Keys and sessions expire by the later of the two.")
    shared = application.database.read_clock()
    if shared is not None and abs(shared - now) > CLOCK_SLACK_SECONDS:
        text = f"The clock is {abs(shared - now):.0f} s off the database server's; set one of them."
        return Finding("fail", "clock", text)
    return Finding("ok", "clock", "plausible and not behind the database")


def _examine_assets(application: Application) -> Finding:
    """Compare the files of assets with what the database says of them."""
    config = build_storage_config(application.settings)
    with application.database.reading() as connection:
        objects = asset_copies.find_objects(connection)
    if config.folder is None:
        return Finding("ok", "assets", f"{len(objects)} files in {config.url}, not looked at")
    folder = config.folder
    missing = [each for each in objects if not asset_copies.is_there(folder, each)]
    if missing:
        text = f"{len(missing)} of {len(objects)} files are missing in {folder}: restore a backup."
        return Finding("fail", "assets", text)
    return Finding("ok", "assets", f"{len(objects)} files, all there")


def _examine_secrets(application: Application) -> Iterator[Finding]:
    try:
        with application.database.reading() as connection:
            application.unlock(connection)
            faults: Sequence[UnreadableRow] = find_unreadable_rows(connection, application.sealer)
            records = application.credentials.list(connection)
            status = application.rotations.describe(connection)
    except HeadgateError as error:
        yield Finding("fail", "master key", error.message)
        return
    for fault in faults:
        text = f"{fault.credential_id} ({fault.name}): {fault.reason}; remove it and add it again."
        yield Finding("fail", fault.table.removesuffix("s"), text)
    yield from _examine_keys(status)
    if not faults:
        yield Finding("ok", "master key", f"opens all {len(records)} credentials")
    if not records:
        text = "There is no credential. Add one: headgate credentials add openai --api-key-stdin"
        yield Finding("warn", "credentials", text)
    broken = {fault.credential_id for fault in faults}
    yield from _examine_providers(application, [each for each in records if each.id not in broken])


def _examine_providers(
    application: Application, records: Sequence[CredentialRecord]
) -> Iterator[Finding]:
    """Check every provider; the simulator is reachable only while its server runs."""
    asleep = [each for each in records if each.source == SIMULATOR_NAME]
    if application.settings.simulator:
        asleep = []
    for each in asleep:
        text = f"{each.base_url} is the simulator, which is reachable only while its server runs"
        yield Finding("ok", "provider", text)
    places = {
        (*parse_base_url(each.base_url), find_purpose(each))
        for each in records
        if each not in asleep
    }
    yield from asyncio.run(_reach_all(application, sorted(places, key=str)))


def _examine_keys(status: VaultStatus) -> Iterator[Finding]:
    for key in status.keys:
        if key.is_worn:
            text = f"{key.id} has sealed {key.seals} times. Run: headgate vault rotate-keys"
            yield Finding("warn", "organization key", text)
    for rotation in status.rotations:
        if rotation.state is RotationState.RUNNING:
            command = {RotationKind.MASTER: "rotate-master", RotationKind.KEYS: "rotate-keys"}
            text = (
                f"{rotation.done} of {rotation.total} rows are done. If it is not running, continue"
            )
            text = f"{text} with: headgate vault {command[rotation.kind]}"
            yield Finding("warn", "rotation", text)


async def _reach_all(
    application: Application, places: Sequence[tuple[Origin, bytes, str]]
) -> list[Finding]:
    client = open_client(application.settings, application.egress_rules)
    try:
        return list(await asyncio.gather(*(_reach(client, *place) for place in places)))
    finally:
        await client.close()


async def _reach(client: HttpClient, origin: Origin, base_path: bytes, purpose: str) -> Finding:
    """Send a request without any secret; any answer shows that the provider is there."""
    seconds = REACH_SECONDS
    timeouts = Timeouts(seconds, seconds, seconds, 2 * seconds)
    target = base_path + b"/models"
    try:
        request = Request(origin, b"GET", target, [], b"", timeouts, purpose=purpose)
        response = await client.send(request)
    except ForbiddenAddressError as error:
        return Finding("fail", "provider", f"{error}.")
    except EgressError as error:
        text = f"{origin} cannot be reached ({error}); check network, proxy and base URL."
        return Finding("fail", "provider", text)
    response.abort()
    return Finding("ok", "provider", f"{origin} answers (status {response.status})")
