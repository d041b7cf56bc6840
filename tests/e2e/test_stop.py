"""How a running server ends: in order, within its grace, or at once at a second signal."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.server_database import ServerDatabase
from tests.fakes.upstream import FakeUpstream, ReceivedRequest
from tests.fakes.waiting import wait_until

TEXT = b'data: {"id":"c","model":"gpt-5.4-mini","choices":[{"delta":{"content":"hello"}}]}\n\n'
ENDING = (
    b'data: {"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":100}}\n\n'
    b"data: [DONE]\n\n"
)
CHAT: dict[str, Any] = {"model": "gpt-5.4-mini", "messages": [], "stream": True}


class Stream:
    """Hold a provider's stream that goes on when the test says so."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, received: ReceivedRequest) -> None:
        if not received.json["stream"]:
            self.go_on.wait(20)
            return
        received.begin_stream()
        received.send_chunk(TEXT)
        self.go_on.wait(20)
        received.send_chunk(ENDING)
        received.send_end()


def refuses_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False


def start_stream(gateway: Gateway) -> RawClient:
    client = RawClient(gateway.port, gateway.key)
    client.ask(body=CHAT)
    assert client.read_head() == 200
    assert client.read_piece() == TEXT
    return client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_completes_running_streams_and_refuses_new_calls(
    upstream: FakeUpstream,
    gateway: Gateway,
    server_database: ServerDatabase,
    number: signal.Signals,
) -> None:
    upstream.script = stream = Stream()
    with RawClient(gateway.port, gateway.key) as idle, start_stream(gateway) as client:
        idle.ask("/health/ready")
        assert idle.read_answer()[0] == 200
        gateway.process.send_signal(number)
        wait_until(lambda: refuses_connections(gateway.port))
        assert idle.is_closed()
        stream.go_on.set()
        assert client.read_body() == b"data: [DONE]\n\n"
        assert client.is_closed()
    assert gateway.process.wait(timeout=5) == 0
    (receipt,) = server_database.receipts()
    assert (receipt["outcome"], receipt["cost_nano"]) == ("completed", 1_200_000)
    logged = [json.loads(each) for each in gateway.log.read_text().splitlines() if "req_" in each]
    assert len(logged) == 1, "the log is written to its end"


def stick(
    upstream: FakeUpstream, tmp_path: Path, end: Callable[[Gateway], None], grace: float
) -> tuple[float, dict[str, Any]]:
    """End a server whose stream is stuck; return the seconds that it took, and the receipt."""
    upstream.script = stream = Stream()
    with running_gateway(
        tmp_path / "data", provider_url=upstream.base_url, grace_seconds=grace
    ) as gateway:
        with start_stream(gateway) as client, RawClient(gateway.port, gateway.key) as waiting:
            waiting.ask(body=CHAT | {"stream": False})
            wait_until(lambda: len(upstream.received) == 2)
            started = time.monotonic()
            end(gateway)
            frame = json.loads(client.read_body().removeprefix(b"data: "))
            assert frame["error"]["code"] == "gateway_stopping"
            assert waiting.read_head() == 503
            assert waiting.headers["x-should-retry"] == "false"
            assert json.loads(waiting.read_body())["error"]["code"] == "gateway_stopping"
        assert gateway.process.wait(timeout=10) == 0
        took = time.monotonic() - started
        stream.go_on.set()
        receipts = ServerDatabase(gateway.data).receipts()
    assert [receipt["outcome"] for receipt in receipts] == ["cancelled", "cancelled"]
    return took, receipts[0]


def test_stuck_stream_gets_an_error_and_is_settled_after_the_grace(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    took, receipt = stick(upstream, tmp_path, lambda gateway: gateway.process.terminate(), 1)
    assert 1.0 <= took < 4.0
    assert (receipt["estimated"], receipt["usage"]["output_tokens"]) == (1, 2)


def test_second_signal_ends_at_once_and_settles_all_the_same(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    def end(gateway: Gateway) -> None:
        gateway.process.terminate()
        wait_until(lambda: refuses_connections(gateway.port))
        gateway.process.terminate()

    took, receipt = stick(upstream, tmp_path, end, 60)
    assert took < 3.0
    assert receipt["estimated"] == 1


def test_idle_server_ends_at_once(gateway: Gateway) -> None:
    started = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - started < 3.0
