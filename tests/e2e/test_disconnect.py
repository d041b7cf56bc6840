"""Callers that leave before their answer is whole (decision 0004)."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from tests.fakes.books import Books
from tests.fakes.deadline import wait_until
from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.raw import Line
from tests.fakes.upstream import Asked, FakeUpstream, running_upstream

DRAIN_SECONDS = 0.2
DRAINS_MAX = 4
EVENTS = 10
CHAT: dict[str, Any] = {"model": "gpt-5.4-mini", "messages": [], "stream": True}
ANSWER = (
    b'{"model":"gpt-5.4-mini","choices":[],'
    b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}'
)
ENDING = (
    b'data: {"model":"gpt-5.4-mini","choices":[],'
    b'"usage":{"prompt_tokens":1000,"completion_tokens":100}}\n\ndata: [DONE]\n\n'
)


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


@pytest.fixture
def books(gateway: Gateway) -> Books:
    return Books(gateway.data)


@pytest.fixture(autouse=True)
def _nothing_leaks(gateway: Gateway) -> Generator[None]:
    before = read_gauges(gateway)
    yield
    wait_until(lambda: read_gauges(gateway)[:2] <= before[:2])
    in_flight, connections, busy = read_gauges(gateway)
    assert (in_flight, busy) == (1, 0), "the one in flight is the question itself"
    assert connections == 1


def read_gauges(gateway: Gateway) -> tuple[int, int, int]:
    """Requests in flight, client connections, and provider connections that carry a call."""
    text = gateway.metrics()

    def read(name: str) -> int:
        found = re.search(rf"^headgate_{name} (\d+)", text, re.MULTILINE)
        assert found, text
        return int(found[1])

    busy = read("provider_connections") - read("provider_connections_idle")
    return read("requests_in_flight"), read("connections"), busy


def event(index: int) -> bytes:
    delta = {"choices": [{"index": 0, "delta": {"content": f"word {index} "}}]}
    return b"data: " + json.dumps({"id": "c", "model": "gpt-5.4-mini"} | delta).encode() + b"\n\n"


class Watched:
    """A script that sends events as the test reads them, and then sees whether it is closed."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.asked = threading.Event()
        self.over = threading.Event()
        self.closed_after: float | None = None
        self.left_at = 0.0

    def __call__(self, asked: Asked) -> None:
        if self.events >= 0:
            asked.begin_stream()
            for index in range(self.events):
                asked.send_chunk(event(index))
        self.asked.set()
        if asked.wait_closed(5):
            self.closed_after = time.monotonic() - self.left_at
        self.over.set()

    def leave(self, line: Line) -> None:
        self.left_at = time.monotonic()
        line.close()


@pytest.mark.parametrize("events", [-1, *range(EVENTS + 1)])
def test_provider_is_closed_within_a_second_and_the_call_is_recorded_once(
    upstream: FakeUpstream, gateway: Gateway, books: Books, events: int
) -> None:
    """-1 is before the head, 0 after it and before any event."""
    upstream.script = watched = Watched(events)
    before = books.count()
    line = Line(gateway.port, gateway.key)
    line.ask(body=CHAT)
    assert watched.asked.wait(5)
    if events >= 0:
        assert line.read_head() == 200
        for index in range(events):
            assert line.read_piece() == event(index)
    watched.leave(line)
    assert watched.over.wait(6)
    assert watched.closed_after is not None
    assert watched.closed_after < 1.0
    receipt = books.wait_for(before + 1)[-1]
    assert (receipt["outcome"], receipt["estimated"]) == ("cancelled", 1)
    words = sum(len(f"word {index} ") for index in range(max(0, events)))
    assert receipt["usage"].get("output_tokens", 0) == -(-words // 4)
    assert receipt["cost_nano"] > 0


def test_buffered_call_is_given_up_too(
    upstream: FakeUpstream, gateway: Gateway, books: Books
) -> None:
    upstream.script = watched = Watched(-1)
    before = books.count()
    line = Line(gateway.port, gateway.key)
    line.ask(body={"model": "gpt-5.4-mini", "messages": []})
    assert watched.asked.wait(5)
    watched.leave(line)
    assert watched.over.wait(6)
    assert watched.closed_after is not None
    assert watched.closed_after < 1.0
    receipt = books.wait_for(before + 1)[-1]
    assert (receipt["outcome"], receipt["estimated"]) == ("cancelled", 1)


def test_client_that_resets_is_gone_like_one_that_closes(
    upstream: FakeUpstream, gateway: Gateway, books: Books
) -> None:
    upstream.script = watched = Watched(3)
    before = books.count()
    line = Line(gateway.port, gateway.key)
    line.ask(body=CHAT)
    assert line.read_head() == 200
    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
    line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    watched.leave(line)
    assert watched.over.wait(6)
    assert watched.closed_after is not None
    assert books.wait_for(before + 1)[-1]["outcome"] == "cancelled"


@pytest.mark.parametrize("streamed", [True, False])
def test_answer_that_ends_within_the_drain_is_exact_and_completed(
    upstream: FakeUpstream, gateway: Gateway, books: Books, streamed: bool
) -> None:
    asked_at, left = threading.Event(), threading.Event()

    def answer(asked: Asked) -> None:
        if streamed:
            asked.begin_stream()
            asked.send_chunk(event(0))
        asked_at.set()
        assert left.wait(5)
        wait_until(lambda: read_gauges(gateway)[1] == 1)
        if streamed:
            asked.send_chunk(ENDING)
            asked.send_end()
        else:
            asked.answer(ANSWER)

    upstream.script = answer
    before = books.count()
    line = Line(gateway.port, gateway.key)
    line.ask(body=CHAT | {"stream": streamed})
    assert asked_at.wait(5)
    line.close()
    left.set()
    receipt = books.wait_for(before + 1)[-1]
    assert (receipt["outcome"], receipt["estimated"]) == ("completed", 0)
    assert receipt["usage"] == {"input_tokens": 1000, "output_tokens": 100}
    assert receipt["cost_nano"] == 1_200_000


def test_only_so_many_answers_are_read_on(
    upstream: FakeUpstream, gateway: Gateway, books: Books
) -> None:
    callers = 3 * DRAINS_MAX
    begun, closed = threading.Semaphore(0), threading.Semaphore(0)
    took: list[float] = []
    left_at = [0.0]

    def answer(asked: Asked) -> None:
        asked.begin_stream()
        asked.send_chunk(event(0))
        begun.release()
        asked.wait_closed(5)
        took.append(time.monotonic() - left_at[0])
        closed.release()

    upstream.script = answer
    before = books.count()
    lines = [Line(gateway.port, gateway.key) for _ in range(callers)]
    for line in lines:
        line.ask(body=CHAT)
    for line in lines:
        assert begun.acquire(timeout=5)
        assert line.read_head() == 200
    left_at[0] = time.monotonic()
    for line in lines:
        line.close()
    for _ in lines:
        assert closed.acquire(timeout=5)
    drained = [seconds for seconds in took if seconds >= DRAIN_SECONDS * 0.9]
    assert len(drained) <= DRAINS_MAX
    receipts = books.wait_for(before + callers)[-callers:]
    assert {receipt["outcome"] for receipt in receipts} == {"cancelled"}


def test_caller_that_leaves_between_two_attempts_stops_them_and_pays_nothing(
    upstream: FakeUpstream, gateway: Gateway, books: Books
) -> None:
    refused = threading.Event()

    def refuse(asked: Asked) -> None:
        asked.answer(b"{}", status=503, headers={"retry-after": "4"})
        refused.set()

    upstream.script = refuse
    before, calls = books.count(), len(upstream.asked)
    line = Line(gateway.port, gateway.key)
    line.ask(body=CHAT)
    assert refused.wait(5)
    line.close()
    started = time.monotonic()
    receipt = books.wait_for(before + 1)[-1]
    assert time.monotonic() - started < 1.0
    assert (receipt["outcome"], receipt["cost_nano"]) == ("cancelled", 0)
    assert len(upstream.asked) == calls + 1


def test_slow_reader_that_leaves_lets_go_of_the_provider(
    upstream: FakeUpstream, gateway: Gateway, books: Books
) -> None:
    blocked, over = threading.Event(), threading.Event()
    big = event(0).replace(b"word", b"x" * 60_000)

    def answer(asked: Asked) -> None:
        asked.begin_stream()
        asked.connection.settimeout(0.5)
        try:
            while True:
                asked.send_chunk(big)
        except TimeoutError:
            blocked.set()
        if asked.wait_closed(5):
            over.set()

    upstream.script = answer
    before = books.count()
    line = Line(gateway.port, gateway.key, receive_bytes=4096)
    line.ask(body=CHAT)
    assert line.read_head() == 200
    assert blocked.wait(10)
    line.close()
    assert over.wait(5)
    assert books.wait_for(before + 1)[-1]["outcome"] == "cancelled"
