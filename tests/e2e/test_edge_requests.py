"""The order of requests on a connection, half-closed clients, and hosts and addresses."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Generator
from typing import Any

import pytest

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream

CHAT = b'{"model":"gpt-5.4-mini","messages":[]}'
PIPELINED_MAX = 32


def echo(received: ReceivedRequest) -> None:
    received.answer(json.dumps({"target": received.target}).encode())


@pytest.fixture(scope="module")
def upstream() -> Generator[FakeUpstream]:
    with running_upstream() as fake:
        yield fake


@pytest.fixture(scope="module")
def gateway(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway]:
    with running_gateway(
        tmp_path_factory.mktemp("turns") / "data", provider_url=upstream.base_url
    ) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway, upstream: FakeUpstream) -> Generator[RawClient]:
    upstream.script = echo
    upstream.forget()
    with RawClient(gateway.port, gateway.key) as opened:
        yield opened


def target_of(body: bytes) -> Any:
    return json.loads(body)["target"]


def test_pipelined_requests_are_answered_in_their_order(client: RawClient) -> None:
    client.send(b"".join(client.render(f"/v1/files/{at}", None) for at in range(20)))
    for at in range(20):
        status, body = client.read_answer()
        assert (status, target_of(body)) == (200, f"/v1/files/{at}")
    client.ask("/health/live")
    assert client.read_answer()[0] == 200


def test_pipelining_over_the_limit_closes_after_the_answers(
    client: RawClient, upstream: FakeUpstream
) -> None:
    client.send(b"".join(client.render(f"/v1/files/{at}", None) for at in range(200)))
    for at in range(PIPELINED_MAX + 1):
        assert target_of(client.read_answer()[1]) == f"/v1/files/{at}"
    assert client.headers["connection"] == "close"
    assert client.is_closed()
    assert len(upstream.received) == PIPELINED_MAX + 1


def test_half_closed_client_gets_its_buffered_answer(
    client: RawClient, upstream: FakeUpstream
) -> None:
    def answer(received: ReceivedRequest) -> None:
        threading.Event().wait(0.7)
        echo(received)

    upstream.script = answer
    client.ask(body=CHAT)
    client.socket.shutdown(socket.SHUT_WR)
    interim = 0
    while (status := client.read_head()) == 100:
        interim += 1
    assert status == 200
    assert interim >= 1
    assert client.headers["connection"] == "close"
    assert target_of(client.read_body()) == "/v1/chat/completions"
    assert client.is_closed()


def test_half_closed_client_gets_its_stream(client: RawClient, upstream: FakeUpstream) -> None:
    def answer(received: ReceivedRequest) -> None:
        threading.Event().wait(0.7)
        received.begin_stream()
        for _ in range(3):
            threading.Event().wait(0.1)
            received.send_chunk(b'data: {"choices":[]}\n\n')
        received.send_chunk(b"data: [DONE]\n\n")
        received.send_end()

    upstream.script = answer
    client.ask(body={"model": "m", "messages": [], "stream": True})
    client.socket.shutdown(socket.SHUT_WR)
    while (status := client.read_head()) == 100:
        pass
    assert status == 200
    assert client.read_body().endswith(b"data: [DONE]\n\n")


def test_half_close_ends_an_incomplete_request(client: RawClient, upstream: FakeUpstream) -> None:
    client.send(client.render("/v1/chat/completions", CHAT)[:-5])
    client.socket.shutdown(socket.SHUT_WR)
    assert client.is_closed()
    assert upstream.received == []


@pytest.mark.parametrize("form", ["http://127.0.0.1{}", "HTTP://127.0.0.1{}"])
def test_absolute_target_is_reduced_to_its_path(client: RawClient, form: str) -> None:
    client.ask(form.format("/v1/files/a?b=c"))
    assert target_of(client.read_answer()[1]) == "/v1/files/a?b=c"
    client.ask(form.format("/health/live"))
    assert client.read_answer()[0] == 200


@pytest.mark.parametrize("path", ["/v1/models", "/health/live", "/metrics", "/"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:4600", 200),
        ("gateway", 200),
        ("[::1]", 200),
        ("evil.example", 421),
        ("a/b", 400),
    ],
)
def test_name_that_a_web_page_could_own_is_misdirected(
    client: RawClient, path: str, host: str, status: int
) -> None:
    client.ask(path, host=host)
    answered, body = client.read_answer()
    assert answered == status
    if status == 421:
        assert "HEADGATE_ALLOWED_HOSTS=evil.example" in json.loads(body)["error"]["message"]


def test_header_with_an_underscore_is_not_forwarded(
    client: RawClient, upstream: FakeUpstream
) -> None:
    head = client.render("/v1/files/a", None).replace(
        b"host:", b"x-stainless-a: 1\r\nx-stainless_b: 1\r\nx-stainless-c_d: 1\r\nhost:"
    )
    client.send(head)
    assert client.read_answer()[0] == 200
    names = {name for name, _ in upstream.received[0].fields}
    assert "x-stainless-a" in names
    assert not {name for name in names if "_" in name}


def test_body_of_other_requests_is_limited(client: RawClient) -> None:
    client.send(client.render("/health/live", None, method="POST", transfer_encoding="chunked"))
    piece = b"10000\r\n%b\r\n" % (b"x" * 65_536)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        client.send(piece * 1000)


def test_trusting_all_proxies_needs_an_asterisk(gateway: Gateway) -> None:
    environment = {"HEADGATE_TRUSTED_PROXIES": "*"}
    refused = gateway.run("serve", "--port", "0", environment=environment)
    assert refused.returncode != 0
    assert "HEADGATE_TRUST_ANY_PROXY" in refused.stderr
