"""A data directory full of keys and credentials, and a server on it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate import settings
from headgate.audit.model import SYSTEM
from headgate.credentials.model.credential import CredentialRequest
from headgate.data_directory.leftovers import FIRST_KEYS_FILE
from headgate.keys.model import Key, KeyKind, KeyRequest, make_token
from headgate.keys.store import KEYS, next_revision
from headgate.main.application import Application, open_application
from headgate.main.first_start import prepare_first_start
from rigs.soak.run import find_port

ROWS_AT_ONCE = 1_000
READY_SECONDS = 60.0
LOCAL = "127.0.0.1/32"


@dataclass(frozen=True)
class Plan:
    """Set how much there is. Every fourth key is limited in each dimension."""

    keys: int = 10_000
    credentials: int = 1_000


@dataclass
class Filled:
    """Hold a filled data directory, and what opens it."""

    data: Path
    organization_id: str
    admin_key: str
    live_key: str
    tokens: list[str]


def fill(folder: Path, plan: Plan) -> Filled:
    """Fill a new data directory; its keys are written as the service makes them."""
    data = folder / "data"
    loaded = settings.load(
        {"HEADGATE_EGRESS_ALLOW": LOCAL, "HEADGATE_KEYS_MAX": "1000000"}, data=data
    )
    application = open_application(loaded)
    try:
        prepare_first_start(application)
        first = msgspec.json.decode((data / FIRST_KEYS_FILE).read_bytes())
        with application.database.transaction() as connection:
            tokens = _issue(application, connection, first, plan.keys)
            _add_credentials(application, connection, first, plan.credentials)
    finally:
        application.close()
    return Filled(
        data, first["organization_id"], first["admin_key"], first["inference_key"], tokens
    )


def _issue(
    application: Application, connection: sa.Connection, first: dict[str, str], keys: int
) -> list[str]:
    tokens: list[str] = []
    place: dict[str, Any] = {
        "organization_id": first["organization_id"],
        "project_id": first["project_id"],
    }
    patterns = [
        application.keys.create(connection, request, by=SYSTEM).key
        for request in (
            KeyRequest(name="open", **place),
            KeyRequest(
                name="limited",
                models=("gpt-5*", "text-embedding-3-*"),
                endpoints=("chat.completions", "embeddings"),
                networks=("10.0.0.0/8", "2001:db8::/32"),
                requests_per_minute=600,
                tokens_per_minute=100_000,
                labels={"team": "search"},
                **place,
            ),
        )
    ]
    for start in range(0, keys, ROWS_AT_ONCE):
        numbers = range(start, min(start + ROWS_AT_ONCE, keys))
        rows = [_row(patterns[number % 4 == 0], number, tokens) for number in numbers]
        revision = next_revision(connection)
        connection.execute(sa.insert(KEYS).values(changed_at_revision=revision), rows)
    return tokens


def _row(pattern: Key, number: int, tokens: list[str]) -> dict[str, Any]:
    token, key_id = make_token(KeyKind.LIVE)
    tokens.append(token)
    key = msgspec.structs.replace(pattern, id=key_id, name=f"service {number}")
    return {"digest": hashlib.sha256(token.encode()).digest(), **msgspec.to_builtins(key)}


def _add_credentials(
    application: Application, connection: sa.Connection, first: dict[str, str], count: int
) -> None:
    for number in range(count):
        application.credentials.add(
            connection,
            CredentialRequest(
                organization_id=first["organization_id"],
                integration="openai",
                secret=f"sk-scale-{number:032d}",
                name=f"credential {number}",
            ),
            by=SYSTEM,
        )


@dataclass
class Server:
    """Represent a running `headgate serve`; `ready_seconds` counts from its process's start."""

    port: int
    filled: Filled
    ready_seconds: float

    def get(self, target: str) -> tuple[float, bytes]:
        """Return the seconds until an answer was whole, and its body."""
        received = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{target}",
            headers={
                "authorization": f"Bearer {self.filled.admin_key}",
                "x-organization-id": self.filled.organization_id,
            },
        )
        begin = time.perf_counter()
        with urllib.request.urlopen(received, timeout=30) as answer:
            body = answer.read()
        return time.perf_counter() - begin, body


@contextlib.contextmanager
def running(filled: Filled) -> Generator[Server]:
    """Run a server on a filled directory, as a user would start it."""
    port = find_port()
    environment = {name: text for name, text in os.environ.items() if "OPENAI" not in name}
    environment |= {"HEADGATE_EGRESS_ALLOW": LOCAL, "HEADGATE_ACCESS_LOG": "false"}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "headgate.cli", "serve"),
            *("--port", str(port), "--data", str(filled.data)),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_ready(process, port, begin + READY_SECONDS)
        yield Server(port, filled, time.perf_counter() - begin)
    finally:
        process.terminate()
        process.wait()


def _wait_ready(process: subprocess.Popen[bytes], port: int, deadline: float) -> None:
    while time.perf_counter() < deadline:
        assert process.poll() is None, "the server ended"
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1),
        ):
            return
    raise TimeoutError("the server does not get ready")
