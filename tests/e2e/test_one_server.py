"""An SQLite database serves one process: how a second one is refused, and what works beside it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from headgate import settings
from headgate.data_directory import directory_lock
from headgate.data_directory.directory_lock import DataDirectoryInUseError
from headgate.main import server
from tests.fakes.gateway import PROVIDER_KEY, Gateway
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
COST_NANO = 1_200_000


def refuse(data: Path) -> str:
    """Start a second server in this process, which is refused."""
    given = {"HEADGATE_DATA": str(data), "HEADGATE_PORT": "0"}
    with pytest.raises(DataDirectoryInUseError) as raised:
        server.serve(settings.load(given))
    return raised.value.message


def sell(gateway: Gateway, base_url: str) -> None:
    """Add a managed credential and money, beside the running server."""
    added = gateway.run(
        *("credentials", "add", "openai", "--managed", "--name", "managed", "--api-key-stdin"),
        *("--base-url", base_url),
        stdin=PROVIDER_KEY,
    )
    assert added.returncode == 0, added.stderr
    assert gateway.run("wallet", "fund", "10", "--reference", "first").returncode == 0


def test_second_server_is_refused_and_leaves_the_holds_of_the_first(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase
) -> None:
    received, go = threading.Event(), threading.Event()

    def answer(request: ReceivedRequest) -> None:
        if request.method == "POST":
            received.set()
            go.wait(20)
        request.answer(json.dumps(ANSWER).encode())

    upstream.script = answer
    sell(gateway, upstream.base_url)
    with RawClient(gateway.port, gateway.key) as client:
        wait_until(lambda: ask_managed(client, received), 5.0)
        told = refuse(gateway.data)
        assert f"in use by `headgate serve` (process {gateway.process.pid})" in told
        assert "Stop that process first" in told
        assert "--data" in told
        assert server_database.read("SELECT state FROM holds") == [{"state": "held"}]
        go.set()
        assert client.read_answer()[0] == 200
    (receipt,) = [each for each in server_database.receipts() if each["managed"]]
    assert (receipt["outcome"], receipt["cost_nano"]) == ("completed", COST_NANO)


def ask_managed(client: RawClient, received: threading.Event) -> bool:
    """Return whether the call reached the provider; the server may not know the credential yet."""
    client.ask(body=CHAT, x_headgate_credential="managed")
    if received.wait(1.0):
        return True
    client.read_answer()
    return False


def test_lock_ends_with_its_process_however_that_ends(gateway: Gateway) -> None:
    loaded = settings.load({"HEADGATE_DATA": str(gateway.data)})
    held = directory_lock.find_server(loaded)
    assert held is not None
    assert held.pid == gateway.process.pid
    gateway.kill()
    assert directory_lock.find_server(loaded) is None
    with directory_lock.hold(loaded, "headgate migrate"):
        assert directory_lock.find_server(loaded) is None
