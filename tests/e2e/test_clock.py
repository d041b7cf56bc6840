"""The wall clock of a running server is set."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.server_database import ServerDatabase
from tests.fakes.upstream import FakeUpstream, ReceivedRequest
from tests.fakes.waiting import wait_until

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
pytestmark = pytest.mark.skipif(
    LIBRARY is None or shutil.which("faketime") is None, reason="faketime is not installed"
)
SETTINGS = ("+3600", "-3600", "+3456000", "-600")
"""Seconds by which the clock is set: an hour either way, 40 days ahead, ten minutes back."""


@dataclass
class Clock:
    """Hold the wall clock of a server, which a test sets while it runs."""

    file: Path

    def set(self, seconds: str) -> None:
        # In one step: a reader never sees half of it.
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{seconds}\n")
        fresh.replace(self.file)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(tmp_path / "offset")
    clock.set("+0")
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(clock.file))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    # A machine whose clock is set keeps its monotonic one.
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("LD_PRELOAD", str(LIBRARY))
    return clock


@pytest.fixture
def server(upstream: FakeUpstream, clock: Clock, tmp_path: Path) -> Generator[Gateway]:
    upstream.script = answer
    with running_gateway(tmp_path / "data", provider_url=upstream.base_url) as running:
        os.environ.pop("LD_PRELOAD", None)
        yield running


def answer(received: ReceivedRequest) -> None:
    time.sleep(0.02)
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    received.answer(json.dumps({"id": "c", "model": "gpt-5.4-mini", "usage": usage}).encode())


def call(client: RawClient) -> tuple[int, str]:
    client.ask(body={"model": "gpt-5.4-mini", "messages": []})
    status, _ = client.read_answer()
    return status, client.headers.get("x-headgate-request-id", "")


@pytest.mark.prove
def test_clock_that_is_set_changes_no_duration_and_makes_no_id_twice(
    server: Gateway, clock: Clock
) -> None:
    ids: list[str] = []
    with RawClient(server.port, server.key) as client:
        steps = [*SETTINGS, *(f"-{5 * number}" for number in range(1, 8))]
        for seconds in steps:
            clock.set(seconds)
            for _ in range(4):
                status, request_id = call(client)
                assert status == 200
                ids.append(request_id)
    receipts = ServerDatabase(server.data).wait_for(len(ids))
    assert len(set(ids)) == len(ids)
    assert {receipt["request_id"] for receipt in receipts} == set(ids)
    for receipt in receipts:
        for name in ("first_byte", "upstream", "total", "overhead"):
            assert 0 <= receipt[f"{name}_microseconds"] < 10_000_000
        assert receipt["total_microseconds"] >= 20_000
    days = {int(receipt["created_at"] / 86_400e6) for receipt in receipts}
    assert max(days) - min(days) >= 39, "the clock was set indeed"


@pytest.mark.prove
def test_clock_that_jumps_lets_no_key_burst(server: Gateway, clock: Clock) -> None:
    made = server.run("keys", "create", "--requests-per-minute", "1", "--json")
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)["token"]
    with RawClient(server.port, key) as client:
        wait_until(lambda: call(client)[0] == 200)
        for seconds in (*SETTINGS, "+0"):
            clock.set(seconds)
            assert call(client)[0] == 429


@pytest.mark.prove
def test_key_that_expired_before_a_stop_is_refused_after_it_whatever_the_clock(
    server: Gateway, clock: Clock
) -> None:
    made = server.run("keys", "create", "--expires", "30m", "--json")
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)["token"]
    clock.set("+3600")
    assert server.stop() == 0
    clock.set("+0")
    variables = {"LD_PRELOAD": str(LIBRARY)}
    with (
        running_gateway(server.data, variables=variables) as again,
        RawClient(again.port, key) as client,
    ):
        client.ask("/v1/models")
        status, body = client.read_answer()
    assert status == 401
    assert b"has expired" in body
