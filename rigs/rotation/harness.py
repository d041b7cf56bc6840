"""The installation under rotation: many credentials, and a caller that uses them in turn."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from headgate.accounts.service import AccountService
from headgate.audit.model import COMMAND_LINE
from headgate.audit.service import AuditLog
from headgate.credentials.model.credential import CredentialRecord
from headgate.credentials.store import credentials as credential_store
from headgate.kit.clock import SystemClock
from headgate.kit.crypto import SecretKey
from headgate.kit.db.engine import Database
from headgate.kit.ids import IdGenerator
from headgate.vault.service import Sealer, find_master_key
from headgate.vault.service.sealing import seal_secret
from headgate.vault.store import revision
from tests.fakes.gateway import Gateway
from tests.fakes.waiting import wait_until

BODY = b'{"model":"gpt-5.4-mini","messages":[]}'
WAIT_SECONDS = 60.0


def add_credentials(data: Path, *, count: int, base_url: str, organizations: int = 5) -> list[str]:
    """Add credentials, the caller's own and those of other organizations, in one transaction.

    Return the names of the caller's own.
    """
    clock, ids = SystemClock(), IdGenerator()
    database = Database(data / "headgate.db")
    names: list[str] = []
    with database.transaction() as connection:
        master_key = find_master_key(connection, text=None, path=data / "master.key")
        assert master_key is not None
        sealer = Sealer(master_key, clock)
        accounts = AccountService(clock, ids, AuditLog(clock))
        owners: list[str | None] = [accounts.list_organizations(connection)[0].id, None]
        for number in range(organizations - 2):
            made = accounts.create_organization(connection, f"Other {number}", by=COMMAND_LINE)
            owners.append(made.id)
        keys = [sealer.current_key(connection, owner, seals=count) for owner in owners]
        for number in range(count):
            place = number % organizations
            record, sealed = _seal(number, owners[place], keys[place], ids, base_url=base_url)
            credential_store.insert_credential(connection, record, sealed=sealed)
            if place == 0:
                names.append(record.name)
        revision.note_change(connection)
    database.close()
    return names


def _seal(
    number: int, owner: str | None, key: tuple[str, SecretKey], ids: IdGenerator, *, base_url: str
) -> tuple[CredentialRecord, bytes]:
    record = CredentialRecord(
        id=ids.make("cred"),
        organization_id=owner,
        integration="openai",
        name=f"number {number}",
        auth_type="api_key",
        base_url=base_url,
        provider_organization=None,
        metadata={},
        hint="…",
        is_default=False,
        created_at=float(number),
        updated_at=float(number),
        key_id=key[0],
        seal_number=1,
    )
    return record, seal_secret(key[1], f"sk-rotation-0123456789abcdef-{number:06}", record)


class Caller:
    """Call with one credential after the other, in a thread, until the block ends.

    `failures` are the statuses other than 200; `latencies` in seconds, with when each began.
    """

    def __init__(self, gateway: Gateway, names: Sequence[str], *, per_second: float = 100) -> None:
        self._port, self._key, self._names = gateway.port, gateway.key, names
        self._pause_seconds = 1 / per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failures: list[int] = []
        self.latencies: list[tuple[float, float]] = []

    def wait_for_calls(self, count: int) -> None:
        """Wait until so many more calls were answered."""
        wanted = len(self.latencies) + count
        wait_until(lambda: len(self.latencies) >= wanted, WAIT_SECONDS)

    def wait_until_known(self) -> Caller:
        """Wait, before the block, until the server has loaded the newest credential."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_SECONDS)
        wait_until(lambda: self._call(connection, self._names[-1]) == 200, WAIT_SECONDS)
        connection.close()
        return self

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_SECONDS)
        number = 0
        started = time.monotonic()
        while not self._stop.is_set():
            began = time.monotonic()
            status = self._call(connection, self._names[number % len(self._names)])
            self.latencies.append((began, time.monotonic() - began))
            if status != 200:
                self.failures.append(status)
            number += 1
            self._stop.wait(started + number * self._pause_seconds - time.monotonic())
        connection.close()

    def _call(self, connection: http.client.HTTPConnection, name: str) -> int:
        headers = {
            "authorization": f"Bearer {self._key}",
            "content-type": "application/json",
            "x-headgate-credential": name,
        }
        try:
            connection.request("POST", "/v1/chat/completions", BODY, headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0
        return answer.status

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
