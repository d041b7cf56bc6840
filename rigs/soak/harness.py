"""The installation of a soak: many keys, and `headgate serve` on it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import sqlalchemy as sa

from headgate.accounts.model import Project
from headgate.audit.model import SYSTEM
from headgate.billing.service import ledger as billing
from headgate.credentials.model.credential import CredentialRequest
from headgate.data_directory.directory_lock import DATABASE_FILE
from headgate.keys.model import KeyKind, KeyRequest, make_token
from headgate.keys.store import KEYS, next_revision
from headgate.kit.db.engine import Database
from headgate.main.application import Application, open_application
from headgate.main.first_start import prepare_first_start
from headgate.metering import store as metering
from headgate.settings import Settings

MANAGED_EVERY = 5
"""Every fifth key is of an organization without a credential: its calls are managed."""
PROVIDER_KEY = "sk-soak-0123456789abcdefghijklmn"
LOCAL = "127.0.0.1/32"
"""The network on which the provider of a soak listens."""
FUNDED_NANO = 1_000_000 * 10**9
START_SECONDS = 120.0
STOP_SECONDS = 60.0
ALARMS = (b"Traceback", b'"level": "error"', b'"level": "critical"')
QUOTED_BYTES = 2_000


def prepare(data: Path, provider_url: str, keys: int) -> list[str]:
    """Make an installation whose keys use that provider; return the tokens of its keys."""
    application = open_application(Settings(data=data, egress_allow=(LOCAL,)))
    try:
        prepare_first_start(application)
        with application.database.transaction() as connection:
            return _fill(application, connection, provider_url, keys)
    finally:
        application.close()


def _fill(
    application: Application, connection: sa.Connection, provider_url: str, keys: int
) -> list[str]:
    accounts = application.accounts
    own = accounts.list_organizations(connection)[0]
    managed = accounts.create_organization(connection, "Managed", by=SYSTEM)
    billing.fund(
        connection,
        managed.id,
        amount_nano=FUNDED_NANO,
        reference="soak",
        now=application.clock.now(),
    )
    for organization_id in (own.id, None):
        request = CredentialRequest(
            organization_id=organization_id,
            integration="openai",
            secret=PROVIDER_KEY,
            base_url=provider_url,
        )
        application.credentials.add(connection, request, by=SYSTEM)
    owners = [
        accounts.create_project(connection, "Soak", organization_id=each.id, by=SYSTEM)
        for each in (own, managed)
    ]
    return _issue(application, connection, owners, keys)


def _issue(
    application: Application, connection: sa.Connection, owners: list[Project], keys: int
) -> list[str]:
    """Write many keys at once, as the service makes one: its checks for each would take minutes."""
    request = KeyRequest(
        name="soak", organization_id=owners[0].organization_id, project_id=owners[0].id
    )
    pattern = application.keys.create(connection, request, by=SYSTEM).key
    tokens: list[str] = []
    rows: list[dict[str, Any]] = []
    for number in range(keys):
        owner = owners[number % MANAGED_EVERY == 0]
        token, key_id = make_token(KeyKind.LIVE)
        key = msgspec.structs.replace(
            pattern, id=key_id, organization_id=owner.organization_id, project_id=owner.id
        )
        digest = hashlib.sha256(token.encode()).digest()
        rows.append({"digest": digest, **msgspec.to_builtins(key)})
        tokens.append(token)
    revision = next_revision(connection)
    connection.execute(sa.insert(KEYS).values(changed_at_revision=revision), rows)
    return tokens


@dataclass
class Server:
    """Represent a running `headgate serve` and its log, of which only alarms are kept."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    alarms: list[str]

    def read(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return answer.read().decode()

    def watch_log(self) -> None:
        """Collect alarms from the log, then truncate it: a million lines are a gigabyte."""
        text = self.log.read_bytes()
        os.truncate(self.log, 0)
        for alarm in ALARMS:
            at = text.find(alarm)
            if at >= 0:
                start = max(0, at - QUOTED_BYTES // 2)
                self.alarms.append(text[start : start + QUOTED_BYTES].decode(errors="replace"))


@contextlib.asynccontextmanager
async def running_server(data: Path, port: int, **settings: str) -> AsyncGenerator[Server]:
    """Run a server; `settings` are HEADGATE_ variables in lower case. It is stopped in order."""
    server = await asyncio.to_thread(_start, data, port, settings)
    try:
        await asyncio.to_thread(_wait_ready, server)
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(server.process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


def _start(data: Path, port: int, settings: Mapping[str, str]) -> Server:
    log = data.parent / f"{data.name}.log"
    environment = {name: value for name, value in os.environ.items() if "HEADGATE" not in name}
    given = {"egress_allow": LOCAL, "breaker_failures": "20", **settings}
    environment |= {f"HEADGATE_{name.upper()}": value for name, value in given.items()}
    command = [*(sys.executable, "-m", "headgate.cli", "serve"), "--port", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, "--data", str(data)], env=environment, stdout=output, stderr=output
        )
    return Server(process, port, log, [])


def _wait_ready(server: Server) -> None:
    try:
        server.process.wait(0.2)
    except subprocess.TimeoutExpired:
        waited = psutil.Process(server.process.pid)
        for _ in range(int(START_SECONDS / 0.2)):
            with contextlib.suppress(OSError, urllib.error.URLError):
                server.read("/health/ready")
                return
            with contextlib.suppress(psutil.TimeoutExpired):
                waited.wait(0.2)
                break
    raise SystemExit(f"soak: the server did not start:\n{server.log.read_text()[-2000:]}")


@dataclass(frozen=True)
class LedgerState:
    """Hold what the database says at the end."""

    receipts: int
    faults: list[str]
    holds_open: int


def read_ledger_state(data: Path) -> LedgerState:
    """Read the files of a stopped server."""
    database = Database(data / DATABASE_FILE)
    try:
        with database.reading() as connection:
            return LedgerState(
                metering.count(connection),
                billing.find_inconsistencies(connection),
                billing.count_open_holds(connection),
            )
    finally:
        database.close()
