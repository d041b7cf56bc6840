"""A backup that is taken under load, and a database file that disappears under its server."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from headgate.billing.service import ledger as billing
from headgate.data_directory import backup
from headgate.kit.db.engine import Database
from headgate.main.master_keys import build_source
from headgate.settings import Settings
from tests.fakes.gateway import PROVIDER_KEY, Gateway, running_gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.server_database import ServerDatabase
from tests.fakes.upstream import FakeUpstream, ReceivedRequest
from tests.fakes.waiting import wait_until

CHAT: dict[str, Any] = {"model": "gpt-5.4-mini", "messages": [], "max_completion_tokens": 100}
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "model": "gpt-5.4-mini",
    "choices": [],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
}
CALLERS = 4
CALLS_BEFORE = 200


class Load:
    """Run callers until the block ends; `acknowledged` are the ids of whole answers."""

    def __init__(self, gateway: Gateway, **headers: str) -> None:
        self.acknowledged: list[str] = []
        self._gateway = gateway
        self._headers = headers
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]

    @contextlib.contextmanager
    def running(self) -> Generator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._ends.set()
            for thread in self._threads:
                thread.join()

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.acknowledged) >= count, 30.0)

    def _call(self) -> None:
        # A server that ends cuts its callers.
        with (
            contextlib.suppress(OSError, ValueError, IndexError),
            RawClient(self._gateway.port, self._gateway.key) as client,
        ):
            while not self._ends.is_set():
                client.ask(body=CHAT, **self._headers)
                status, _ = client.read_answer()
                if status == 200:
                    self.acknowledged.append(client.headers["x-headgate-request-id"])


def answer(received: ReceivedRequest) -> None:
    received.answer(json.dumps(ANSWER).encode())


def read_ids(data: Path) -> set[str]:
    return {
        row["request_id"] for row in ServerDatabase(data).read("SELECT request_id FROM receipts")
    }


@pytest.mark.prove
def test_backup_under_load_holds_every_call_that_was_acknowledged_before_it(
    upstream: FakeUpstream, gateway: Gateway, tmp_path: Path
) -> None:
    upstream.script = answer
    added = gateway.run(
        *("credentials", "add", "openai", "--managed", "--name", "managed", "--api-key-stdin"),
        *("--base-url", upstream.base_url),
        stdin=PROVIDER_KEY,
    )
    assert added.returncode == 0, added.stderr
    assert gateway.run("wallet", "fund", "100", "--reference", "first").returncode == 0
    folder, key_file = tmp_path / "backup", tmp_path / "elsewhere.key"
    with Load(gateway, x_headgate_credential="managed").running() as load:
        load.wait_for(CALLS_BEFORE)
        before = set(load.acknowledged)
        done = gateway.run("backup", str(folder), "--key-file", str(key_file))
        assert done.returncode == 0, done.stderr
        during = len(load.acknowledged)
        load.wait_for(during + 20)
    assert during > len(before), "calls went on meanwhile"
    assert sorted(each.name for each in folder.iterdir()) == ["headgate.db", "manifest.json"]
    assert not any(each.stat().st_mode & 0o077 for each in (*folder.iterdir(), key_file))
    beside = gateway.run("restore", str(folder), "--replace")
    assert beside.returncode == 1
    assert f"in use by `headgate serve` (process {gateway.process.pid})" in beside.stderr
    fresh = Settings(data=tmp_path / "fresh")
    restored = backup.restore(fresh, build_source(fresh), folder, replace=False, key_file=key_file)
    assert before <= read_ids(fresh.data)
    assert restored.manifest.rows["receipts"] == len(read_ids(fresh.data))
    database = Database(fresh.data / "headgate.db")
    with database.reading() as connection:
        assert billing.find_inconsistencies(connection) == []
    database.close()
    with running_gateway(fresh.data) as again, RawClient(again.port, gateway.key) as client:
        client.ask(body=CHAT, x_headgate_credential="managed")
        assert client.read_answer()[0] == 200, "the restored credential opens"
        assert ServerDatabase(fresh.data).read("SELECT * FROM holds WHERE state = 'held'") == []


@pytest.mark.parametrize("what", ["database", "folder"])
def test_database_that_goes_missing_stops_its_server_and_loses_nothing_acknowledged(
    upstream: FakeUpstream, gateway: Gateway, tmp_path: Path, what: str
) -> None:
    upstream.script = answer
    with Load(gateway).running() as load:
        load.wait_for(50)
        if what == "database":
            (gateway.data / "headgate.db").unlink()
        else:
            shutil.copytree(gateway.data, tmp_path / "copy")
            gateway.data.rename(tmp_path / "moved")
            (tmp_path / "copy").rename(gateway.data)
        assert gateway.process.wait(timeout=30) == 1
    log = gateway.log.read_text()
    assert f"{gateway.data / 'headgate.db'} was" in log
    assert "while the server ran. It completed no more calls and has stopped." in log
    (rescued,) = gateway.data.glob("rescued-*")
    assert f"headgate restore {rescued} --replace" in log
    fresh = Settings(data=tmp_path / "fresh")
    shutil.copytree(rescued, tmp_path / "rescued")
    fresh.data.mkdir()
    shutil.copy(gateway.data / "master.key", fresh.data)
    backup.restore(fresh, build_source(fresh), tmp_path / "rescued", replace=False)
    assert set(load.acknowledged) <= read_ids(fresh.data)
