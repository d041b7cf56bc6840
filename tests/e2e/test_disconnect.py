"""Callers that leave before their answer is whole (decision 0006)."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.server_database import ServerDatabase
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream
from tests.fakes.waiting import wait_until

DRAIN_SECONDS = 1.0
DRAINS_MAX = 4
EVENTS = 20
INPUT_TOKENS, OUTPUT_TOKENS = 1000, 100
COST_NANO = 1_200_000
CHAT: dict[str, Any] = {"model": "gpt-5.4-mini", "messages": [], "stream": True}
ANSWER = (
    b'{"model":"gpt-5.4-mini","choices":[],'
    b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}'
)


def word(index: int) -> str:
    return f"word {index} " * 3


def count_words(events: int) -> int:
    """Return the bytes of text in so many events."""
    return sum(len(word(index)) for index in range(events))


def chat_event(index: int) -> bytes:
    delta = {"choices": [{"index": 0, "delta": {"content": word(index)}}]}
    return b"data: " + json.dumps({"id": "c", "model": "gpt-5.4-mini"} | delta).encode() + b"\n\n"


def response_event(index: int) -> bytes:
    delta = {"type": "response.output_text.delta", "sequence_number": index, "delta": word(index)}
    return b"event: response.output_text.delta\ndata: " + json.dumps(delta).encode() + b"\n\n"


@dataclass
class Wire:
    """Describe a stream of one wire: its address, its events, and how the provider ends it."""

    path: str
    body: dict[str, Any]
    event: Callable[[int], bytes]
    ending: bytes


WIRES = {
    "chat": Wire(
        "/v1/chat/completions",
        CHAT,
        chat_event,
        b'data: {"model":"gpt-5.4-mini","choices":[],'
        b'"usage":{"prompt_tokens":1000,"completion_tokens":100}}\n\ndata: [DONE]\n\n',
    ),
    "responses": Wire(
        "/v1/responses",
        {"model": "gpt-5.4-mini", "input": "hello", "stream": True},
        response_event,
        b'event: response.completed\ndata: {"type":"response.completed","sequence_number":99,'
        b'"response":{"id":"r","model":"gpt-5.4-mini","status":"completed",'
        b'"usage":{"input_tokens":1000,"output_tokens":100,"total_tokens":1100}}}\n\n',
    ),
}
wires = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)


@pytest.fixture(scope="module")
def upstream() -> Generator[FakeUpstream]:
    with running_upstream() as fake:
        yield fake


@pytest.fixture(scope="module")
def gateway(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway]:
    with running_gateway(
        tmp_path_factory.mktemp("disconnect") / "data",
        provider_url=upstream.base_url,
        drain_seconds=DRAIN_SECONDS,
        drains_max=DRAINS_MAX,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def draining_key(gateway: Gateway) -> str:
    """Return a key with the disconnect policy that is not the default."""
    created = gateway.run("keys", "create", "--on-disconnect", "drain")
    key = created.stdout.strip()

    def is_known() -> bool:
        with RawClient(gateway.port, key) as client:
            client.ask("/v1/realtime")
            return client.read_answer()[0] != 401

    wait_until(is_known)
    return key


@pytest.fixture
def server_database(gateway: Gateway) -> ServerDatabase:
    return ServerDatabase(gateway.data)


@pytest.fixture(autouse=True)
def _nothing_leaks(gateway: Gateway) -> Generator[None]:
    yield
    wait_until(lambda: read_gauges(gateway) == (1, 1, 0, 0))


def read_gauges(gateway: Gateway) -> tuple[int, int, int, int]:
    """Return requests in flight and client connections (this request is one of each), provider
    connections that carry a call, and drains.
    """
    text = gateway.metrics()

    def read(name: str) -> int:
        found = re.search(rf"^headgate_{name} (\d+)", text, re.MULTILINE)
        assert found, text
        return int(found[1])

    busy = read("provider_connections") - read("provider_connections_idle")
    return read("requests_in_flight"), read("connections"), busy, read("drains")


class Watched:
    """Send events as the test reads them, and then check that the connection is closed."""

    def __init__(self, events: int, wire: Wire = WIRES["chat"]) -> None:
        self.events = events
        self.wire = wire
        self.received = threading.Event()
        self.over = threading.Event()
        self.closed_after: float | None = None
        self.left_at = 0.0

    def __call__(self, received: ReceivedRequest) -> None:
        if self.send(received) or received.wait_closed(10):
            self.closed_after = time.monotonic() - self.left_at
        self.over.set()

    def send(self, received: ReceivedRequest) -> bool:
        """Return whether the connection was closed before all events were sent: a caller that reads
        no more than the head may be gone by then.
        """
        try:
            if self.events >= 0:
                received.begin_stream()
                for index in range(self.events):
                    received.send_chunk(self.wire.event(index))
        except OSError:
            return True
        self.received.set()
        return False

    def leave(self, client: RawClient, *, reset: bool = False) -> None:
        self.left_at = time.monotonic()
        if reset:
            client.reset()
        else:
            client.close()


class Resumed:
    """Go on to the end of the answer once the caller has left."""

    def __init__(self, events: int, wire: Wire) -> None:
        self.events = events
        self.wire = wire
        self.received = threading.Event()
        self.left = threading.Event()

    def __call__(self, received: ReceivedRequest) -> None:
        if self.events >= 0:
            received.begin_stream()
        for index in range(self.events):
            received.send_chunk(self.wire.event(index))
        self.received.set()
        assert self.left.wait(10)
        if self.events < 0:
            received.begin_stream()
        for index in range(max(0, self.events), EVENTS):
            received.send_chunk(self.wire.event(index))
        received.send_chunk(self.wire.ending)
        received.send_end()


def read_events(client: RawClient, script: Watched | Resumed) -> None:
    """Call, and read as far as the script goes: -1 is before the head, 0 after it."""
    client.ask(script.wire.path, script.wire.body)
    assert script.received.wait(5)
    if script.events >= 0:
        assert client.read_head() == 200
        for index in range(script.events):
            assert client.read_piece() == script.wire.event(index)


@wires
def test_cancelled_stream_is_billed_by_what_was_delivered_at_every_event(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase, wire: Wire
) -> None:
    before = server_database.count()
    costs: list[int] = []
    for events in range(-1, EVENTS + 1):
        upstream.script = watched = Watched(events, wire)
        client = RawClient(gateway.port, gateway.key)
        read_events(client, watched)
        watched.leave(client)
        assert watched.over.wait(11)
        assert watched.closed_after is not None
        assert watched.closed_after < 1.0
        receipt = server_database.wait_for(before + len(costs) + 1)[-1]
        assert (receipt["outcome"], receipt["estimated"]) == ("cancelled", 1)
        delivered = count_words(max(0, events))
        assert receipt["usage"].get("output_tokens", 0) == -(-delivered // 4)
        assert receipt["usage"]["input_tokens"] == -(-len(upstream.received[-1].body) // 4)
        costs.append(receipt["cost_nano"])
    assert costs == sorted(costs)
    assert 0 < costs[0] == costs[1] < costs[2] < costs[-1]


@wires
def test_drained_stream_is_billed_exactly_at_every_event(
    upstream: FakeUpstream,
    gateway: Gateway,
    server_database: ServerDatabase,
    draining_key: str,
    wire: Wire,
) -> None:
    before = server_database.count()
    for calls, events in enumerate(range(-1, EVENTS + 1), 1):
        upstream.script = resumed = Resumed(events, wire)
        client = RawClient(gateway.port, draining_key)
        read_events(client, resumed)
        client.close()
        wait_until(lambda: read_gauges(gateway)[3] == 1)
        resumed.left.set()
        receipt = server_database.wait_for(before + calls)[-1]
        assert (receipt["outcome"], receipt["estimated"]) == ("completed", 0)
        used = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
        assert (receipt["usage"], receipt["cost_nano"]) == (used, COST_NANO)


def test_drain_that_lasts_too_long_is_cancelled(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase, draining_key: str
) -> None:
    upstream.script = watched = Watched(3)
    before = server_database.count()
    client = RawClient(gateway.port, draining_key)
    read_events(client, watched)
    watched.leave(client)
    assert watched.over.wait(11)
    assert watched.closed_after is not None
    assert watched.closed_after >= DRAIN_SECONDS * 0.9
    receipt = server_database.wait_for(before + 1)[-1]
    assert (receipt["outcome"], receipt["estimated"]) == ("cancelled", 1)
    assert receipt["usage"]["output_tokens"] == -(-count_words(3) // 4)


def test_buffered_call_is_cancelled_on_disconnect(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase
) -> None:
    upstream.script = watched = Watched(-1)
    before = server_database.count()
    client = RawClient(gateway.port, gateway.key)
    client.ask(body={"model": "gpt-5.4-mini", "messages": []})
    assert watched.received.wait(5)
    watched.leave(client)
    assert watched.over.wait(6)
    assert watched.closed_after is not None
    assert watched.closed_after < 1.0
    receipt = server_database.wait_for(before + 1)[-1]
    assert (receipt["outcome"], receipt["estimated"]) == ("cancelled", 1)


def test_reset_counts_as_disconnect(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase
) -> None:
    upstream.script = watched = Watched(3)
    before = server_database.count()
    client = RawClient(gateway.port, gateway.key)
    client.ask(body=CHAT)
    assert client.read_head() == 200
    watched.leave(client, reset=True)
    assert watched.over.wait(6)
    assert watched.closed_after is not None
    assert server_database.wait_for(before + 1)[-1]["outcome"] == "cancelled"


def test_reset_of_a_pipelining_client_counts_as_disconnect(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase
) -> None:
    """It is not read from until its first answer is written, so no read tells of the reset."""
    upstream.script = watched = Watched(-1)
    before = server_database.count()
    client = RawClient(gateway.port, gateway.key)
    read_events(client, watched)
    client.ask(body=CHAT)
    watched.leave(client, reset=True)
    assert watched.over.wait(6)
    assert watched.closed_after is not None
    assert server_database.wait_for(before + 1)[-1]["outcome"] == "cancelled"


def test_provider_connection_is_closed_after_a_reset(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase
) -> None:
    noticed = threading.Event()

    def event(index: int) -> bytes:
        assert index == 0 or noticed.wait(5)
        return chat_event(index)

    upstream.script = watched = Watched(3, replace(WIRES["chat"], event=event))
    before = server_database.count()
    client = RawClient(gateway.port, gateway.key)
    client.ask(body=CHAT)
    assert client.read_head() == 200
    assert client.read_piece() == chat_event(0)
    watched.leave(client, reset=True)
    assert server_database.wait_for(before + 1)[-1]["outcome"] == "cancelled"
    noticed.set()
    assert watched.over.wait(6)
    assert watched.closed_after is not None


def test_buffered_answer_is_read_on_too(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase, draining_key: str
) -> None:
    asked_at, left = threading.Event(), threading.Event()

    def answer(received: ReceivedRequest) -> None:
        asked_at.set()
        assert left.wait(10)
        received.answer(ANSWER)

    upstream.script = answer
    before = server_database.count()
    client = RawClient(gateway.port, draining_key)
    client.ask(body=CHAT | {"stream": False})
    assert asked_at.wait(5)
    client.close()
    wait_until(lambda: read_gauges(gateway)[3] == 1)
    left.set()
    receipt = server_database.wait_for(before + 1)[-1]
    assert (receipt["outcome"], receipt["estimated"]) == ("completed", 0)
    assert receipt["cost_nano"] == COST_NANO


def test_number_of_drained_answers_is_limited(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase, draining_key: str
) -> None:
    callers = 3 * DRAINS_MAX
    begun, closed = threading.Semaphore(0), threading.Semaphore(0)
    took: list[float] = []
    left_at = [0.0]

    def answer(received: ReceivedRequest) -> None:
        received.begin_stream()
        received.send_chunk(chat_event(0))
        begun.release()
        received.wait_closed(10)
        took.append(time.monotonic() - left_at[0])
        closed.release()

    upstream.script = answer
    before = server_database.count()
    clients = [RawClient(gateway.port, draining_key) for _ in range(callers)]
    for client in clients:
        client.ask(body=CHAT)
    for client in clients:
        assert begun.acquire(timeout=5)
        assert client.read_head() == 200
    left_at[0] = time.monotonic()
    for client in clients:
        client.close()
    assert read_gauges(gateway)[3] <= DRAINS_MAX
    for _ in clients:
        assert closed.acquire(timeout=11)
    drained = [seconds for seconds in took if seconds >= DRAIN_SECONDS * 0.9]
    assert 0 < len(drained) <= DRAINS_MAX
    receipts = server_database.wait_for(before + callers)[-callers:]
    assert {receipt["outcome"] for receipt in receipts} == {"cancelled"}


def test_caller_that_leaves_between_two_attempts_stops_them_and_pays_nothing(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase
) -> None:
    refused = threading.Event()

    def refuse(received: ReceivedRequest) -> None:
        received.answer(b"{}", status=503, headers={"retry-after": "4"})
        refused.set()

    upstream.script = refuse
    before, calls = server_database.count(), len(upstream.received)
    client = RawClient(gateway.port, gateway.key)
    client.ask(body=CHAT)
    assert refused.wait(5)
    client.close()
    started = time.monotonic()
    receipt = server_database.wait_for(before + 1)[-1]
    assert time.monotonic() - started < 1.0
    assert (receipt["outcome"], receipt["cost_nano"]) == ("cancelled", 0)
    assert len(upstream.received) == calls + 1


def test_client_that_disconnects_before_a_connection_pays_nothing(
    gateway: Gateway, server_database: ServerDatabase
) -> None:
    """The provider takes the connection, and never begins with TLS."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10)
        gateway.run(
            *("credentials", "add", "openai", "--api-key-stdin", "--name", "silent"),
            *("--base-url", f"https://127.0.0.1:{silent.getsockname()[1]}/v1"),
            stdin="sk-silent-0123456789abcdefghijklm",
        )

        def is_known() -> bool:
            with RawClient(gateway.port, gateway.key) as client:
                client.ask("/v1/models", x_headgate_credential="silent")
                client.socket.settimeout(0.5)
                try:
                    return b"silent" not in client.read_answer()[1]
                except TimeoutError:
                    return True

        wait_until(is_known)
        silent.accept()[0].close()
        wait_until(lambda: read_gauges(gateway)[0] == 1)
        before = server_database.count()
        client = RawClient(gateway.port, gateway.key)
        client.ask(body=CHAT, x_headgate_credential="silent")
        connection = silent.accept()[0]
        client.close()
        receipt = server_database.wait_for(before + 1)[-1]
        connection.close()
    assert (receipt["outcome"], receipt["attempts"]) == ("cancelled", 1)
    assert (receipt["cost_nano"], receipt["usage"]) == (0, None)


def test_slow_reader_that_disconnects_releases_the_provider(
    upstream: FakeUpstream, gateway: Gateway, server_database: ServerDatabase
) -> None:
    blocked, over = threading.Event(), threading.Event()
    big = chat_event(0).replace(b"word", b"x" * 60_000)

    def answer(received: ReceivedRequest) -> None:
        received.begin_stream()
        received.connection.settimeout(0.5)
        try:
            while True:
                received.send_chunk(big)
        except TimeoutError:
            blocked.set()
        if received.wait_closed(5):
            over.set()

    upstream.script = answer
    before = server_database.count()
    client = RawClient(gateway.port, gateway.key, receive_bytes=4096)
    client.ask(body=CHAT)
    assert client.read_head() == 200
    assert blocked.wait(10)
    client.close()
    assert over.wait(5)
    assert server_database.wait_for(before + 1)[-1]["outcome"] == "cancelled"
