"""A full disk, a database that another program has locked, a log that grows."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway import PROVIDER_KEY, Gateway, running_gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.server_database import ServerDatabase
from tests.fakes.upstream import FakeUpstream, ReceivedRequest
from tests.fakes.waiting import wait_until

CHAT: dict[str, Any] = {"model": "gpt-5.4-mini", "messages": []}
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "model": "gpt-5.4-mini",
    "choices": [],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
}
SLACK_SECONDS = 10.0
"""For a machine that does much else."""


def answer(received: ReceivedRequest) -> None:
    received.answer(json.dumps(ANSWER).encode())


def call(gateway: Gateway) -> tuple[int, dict[str, str], bytes]:
    with RawClient(gateway.port, gateway.key) as client:
        client.ask(body=CHAT)
        status, body = client.read_answer()
        return status, client.headers, body


def ask(gateway: Gateway, path: str) -> int:
    with RawClient(gateway.port) as client:
        client.ask(path)
        return client.read_answer()[0]


@contextmanager
def full_disk(gateway: Gateway) -> Generator[None]:
    """Fail every write to the database for lack of room."""
    with tracing(gateway, "inject=pwrite64:error=ENOSPC"):
        yield


@contextmanager
def tracing(gateway: Gateway, expression: str) -> Generator[None]:
    command = ["strace", "-f", "-e", "trace=pwrite64,fsync,fdatasync", "-e", expression]
    tracer = subprocess.Popen(
        [*command, "-o", "/dev/null", "-p", str(gateway.process.pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    with tracer.stderr:
        assert "attached" in tracer.stderr.readline()
        try:
            yield
        finally:
            tracer.terminate()
            tracer.wait()


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here")


@contextmanager
def locked_database(gateway: Gateway) -> Generator[None]:
    path = gateway.data / "headgate.db"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@needs_strace
def test_full_disk_makes_no_call_and_loses_none(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase
) -> None:
    upstream.script = answer
    assert call(gateway)[0] == 200
    with full_disk(gateway):
        status, headers, body = call(gateway)
        assert (status, headers["x-should-retry"]) == (503, "false")
        assert json.loads(body)["error"]["code"] == "storage_unavailable"
        assert b"chatcmpl" not in body
        sent = len(upstream.received)
        assert ask(gateway, "/health/ready") == 503
        assert ask(gateway, "/health/live") == ask(gateway, "/metrics") == 200
        status, headers, body = call(gateway)
        assert (status, headers["x-should-retry"], headers["retry-after"]) == (503, "true", "2")
        assert len(upstream.received) == sent, "nothing is sent while nothing can be recorded"
        assert "headgate_storage_good 0.0" in gateway.metrics()
    wait_until(lambda: ask(gateway, "/health/ready") == 200, SLACK_SECONDS)
    assert call(gateway)[0] == 200
    first, withheld, last = server_database.wait_for(3)
    assert [first["outcome"], last["outcome"]] == ["completed", "completed"]
    assert (withheld["outcome"], withheld["error_code"]) == ("broken", "storage_unavailable")
    assert (withheld["status"], withheld["cost_nano"]) == (503, 1_200_000)


@pytest.mark.prove
@needs_strace
def test_flush_that_fails_ends_the_process_and_completes_no_answer(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase
) -> None:
    upstream.script = answer
    assert call(gateway)[0] == 200
    managed = gateway.run(
        *("credentials", "add", "openai", "--managed", "--name", "managed", "--api-key-stdin"),
        *("--base-url", upstream.base_url),
        stdin=PROVIDER_KEY,
    )
    assert managed.returncode == 0, managed.stderr
    assert gateway.run("wallet", "fund", "10", "--reference", "first").returncode == 0
    wait_until(lambda: call_managed(gateway)[0] == 200)
    settled = server_database.count()
    with tracing(gateway, "inject=fsync,fdatasync:error=EIO"):
        status, body = call_managed(gateway)
        assert status == 503
        assert b"chatcmpl" not in body
        assert gateway.process.wait(timeout=30) == 1
    assert "A flush to the disk failed" in gateway.log.read_text()
    with running_gateway(gateway.data, port=gateway.port) as again:
        assert ask(again, "/health/ready") == 200
    assert server_database.count() == settled + 1
    assert server_database.read("SELECT * FROM holds WHERE state = 'held'") == []


def call_managed(gateway: Gateway) -> tuple[int, bytes]:
    with RawClient(gateway.port, gateway.key) as client:
        body = {**CHAT, "max_completion_tokens": 100}
        client.ask(body=body, x_headgate_credential="managed")
        return client.read_answer()


def test_receipt_that_waits_for_the_disk_is_recorded_at_a_stop(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase
) -> None:
    upstream.script = answer
    with locked_database(gateway):
        assert call(gateway)[0] == 503
        gateway.process.terminate()
    assert gateway.process.wait(timeout=30) == 0
    (receipt,) = server_database.receipts()
    assert (receipt["outcome"], receipt["cost_nano"]) == ("broken", 1_200_000)


def test_locked_database_is_waited_for_and_holds_up_nobody_else(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.script = answer
    with running_gateway(
        tmp_path / "data", provider_url=upstream.base_url, database_wait_seconds=1.0
    ) as gateway:
        assert call(gateway)[0] == 200
        with locked_database(gateway), RawClient(gateway.port, gateway.key) as client:
            started = time.monotonic()
            client.ask(body=CHAT)
            lags = [measure(gateway) for _ in range(20)]
            assert client.read_answer()[0] == 503
            assert time.monotonic() - started < 1.0 + SLACK_SECONDS
            assert sorted(lags)[10] < 0.5, "the loop does not wait for the database"
        wait_until(lambda: call(gateway)[0] == 200, SLACK_SECONDS)


def measure(gateway: Gateway) -> float:
    started = time.monotonic()
    assert ask(gateway, "/health/live") == 200
    return time.monotonic() - started


def test_log_that_a_stuck_reader_makes_grow_is_told_and_then_bounded(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.script = answer
    limits: dict[str, Any] = {
        "wal_alarm_bytes": 100_000,
        "wal_bytes_max": 300_000,
        "access_log": "false",
    }
    with (
        running_gateway(tmp_path / "data", provider_url=upstream.base_url, **limits) as gateway,
        RawClient(gateway.port, gateway.key) as client,
    ):
        path = gateway.data / "headgate.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM receipts").fetchone()
            deadline = time.monotonic() + 40
            status = 200
            while status == 200 and time.monotonic() < deadline:
                client.ask(body=CHAT)
                status, _ = client.read_answer()
            assert status == 503
            assert ask(gateway, "/health/ready") == 503
            assert "storage.wal" in gateway.log.read_text()
            checked = gateway.run("doctor", "--json")
            assert checked.returncode in (0, 1)
        assert "headgate_database_wal_bytes" in gateway.metrics()
