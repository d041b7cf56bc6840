"""No request is ever read as two: an ambiguous one is refused, and the input after it is ignored.

Sent to the gateway directly, the second request must never be served. Behind a proxy, both may be
served as the proxy understood them, but the gateway must count exactly the requests that the proxy
sent.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.smuggling_vectors import MARKER_PATH, build, build_marker
from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.proxies import MARK, PROXIES, running_proxy
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream

NAMES = tuple(build("hg_live_any"))
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
WIDTH = 16


def echo(received: ReceivedRequest) -> None:
    received.answer(json.dumps({"target": received.target, "bytes": len(received.body)}).encode())


@pytest.fixture(scope="module")
def upstream() -> Generator[FakeUpstream]:
    with running_upstream() as fake:
        fake.script = echo
        yield fake


@pytest.fixture(scope="module")
def gateway(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway]:
    with running_gateway(
        tmp_path_factory.mktemp("smuggling") / "data",
        provider_url=upstream.base_url,
        body_grace_seconds=0.5,
        retries_max=0,
    ) as running:
        yield running


def talk(port: int, raw: bytes, *, timeout_seconds: float) -> tuple[bytes, bool]:
    """Return what a server answers until it closes or falls silent, and whether it closed."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(raw)
        try:
            while data := connection.recv(65_536):
                said += data
        except TimeoutError:
            return said, False
        except OSError:
            return said, True
    return said, True


def test_there_are_enough_vectors() -> None:
    assert len(NAMES) >= 60


@pytest.mark.parametrize("name", NAMES)
def test_smuggling_vector_is_refused_and_ends_the_connection(
    gateway: Gateway, upstream: FakeUpstream, name: str
) -> None:
    vector = build(gateway.key)[name]
    before = len(upstream.received)
    said, closed = talk(gateway.port, vector.raw, timeout_seconds=10)
    assert [int(status) for status in STATUS.findall(said)] == [vector.status]
    assert closed
    assert b"connection: close\r\n" in said
    assert b'{"error":{"message":' in said
    assert len(upstream.received) == before


def test_smuggling_vector_after_a_valid_request_ends_the_connection(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    """Pipelined behind a good request: that one is answered, and nothing after it is served."""
    vectors = build(gateway.key)
    good = build_marker(gateway.key).replace(MARKER_PATH.encode(), b"/v1/first")
    names = ("length and coding", "line: two spaces", "host: two", "coding: xchunked")
    for name in names:
        before = len(upstream.received)
        said, closed = talk(gateway.port, good + vectors[name].raw, timeout_seconds=10)
        assert STATUS.findall(said)[0] == b"200", name
        assert closed, name
        assert [each.target for each in upstream.received[before:]] == ["/v1/first"], name


@pytest.mark.parametrize("proxy", PROXIES)
def test_gateway_and_proxy_never_disagree_on_what_is_a_request(
    gateway: Gateway, upstream: FakeUpstream, tmp_path: Path, proxy: str
) -> None:
    """Every vector from several clients at once, over the proxy's few connections to the gateway;
    after each, a good request must get its own answer."""
    vectors = build(gateway.key)
    before = len(upstream.received)
    wrong: list[str] = []
    lock = threading.Lock()
    with running_proxy(proxy, tmp_path / proxy, gateway.port) as port:

        def attack(name: str) -> None:
            talk(port, vectors[name].raw, timeout_seconds=3)
            target = f"/v1/good/{NAMES.index(name)}"
            good = build_marker(gateway.key).replace(MARKER_PATH.encode(), target.encode())
            said, _ = talk(
                port, good.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), timeout_seconds=9
            )
            if STATUS.findall(said) != [b"200"] or b'"%b"' % target.encode() not in said:
                with lock:
                    wrong.append(f"{name}: {said[-300:]!r}")

        with ThreadPoolExecutor(WIDTH) as clients:
            list(clients.map(attack, NAMES))
    received = upstream.received[before:]
    marks = [[value for field, value in each.fields if field == MARK] for each in received]
    assert wrong == []
    assert [each for each, mark in zip(received, marks, strict=True) if len(mark) != 1] == []
    assert len({mark[0] for mark in marks}) == len(received)
    assert len([each for each in received if each.target.startswith("/v1/good/")]) == len(NAMES)
