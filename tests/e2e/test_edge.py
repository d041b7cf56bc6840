"""What a client may do to a connection, and how the edge bounds it (law 8)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.upstream import FakeUpstream, running_upstream

HEADER_SECONDS = 0.6
FIRST_REQUEST_SECONDS = 0.9
BODY_SECONDS = 1.6
GRACE_SECONDS = 0.8
BYTES_PER_SECOND_MIN = 2
KEEPALIVE_SECONDS = 1.0
SWEEP_SECONDS = 1.5
"""How late a deadline may be noticed, on a busy machine."""
CONNECTIONS_MAX = 8
IN_FLIGHT_MAX = 3
BODY_BYTES_MAX = 100_000
CHAT = b'{"model":"gpt-5.4-mini","messages":[]}'


@pytest.fixture(scope="module")
def upstream() -> Generator[FakeUpstream]:
    with running_upstream() as fake:
        yield fake


@pytest.fixture(scope="module")
def gateway(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway]:
    with running_gateway(
        tmp_path_factory.mktemp("edge") / "data",
        provider_url=upstream.base_url,
        header_seconds=HEADER_SECONDS,
        first_request_seconds=FIRST_REQUEST_SECONDS,
        body_seconds=BODY_SECONDS,
        body_grace_seconds=GRACE_SECONDS,
        body_bytes_per_second_min=BYTES_PER_SECOND_MIN,
        write_seconds=1,
        keepalive_seconds=KEEPALIVE_SECONDS,
        connections_max=CONNECTIONS_MAX,
        requests_in_flight_max=IN_FLIGHT_MAX,
        json_body_bytes_max=BODY_BYTES_MAX,
        allowed_hosts="127.0.0.1,gate.example",
    ) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway, upstream: FakeUpstream) -> Generator[RawClient]:
    upstream.script = lambda received: received.answer(
        json.dumps({"n": len(received.body)}).encode()
    )
    with RawClient(gateway.port, gateway.key) as opened:
        yield opened


def code_of(body: bytes) -> Any:
    return json.loads(body)["error"]["code"]


def assert_refused(client: RawClient, status: int, code: str) -> None:
    """Return whether the answer is an error in the wire's shape and the connection ends."""
    assert client.read_head() == status
    assert client.headers["connection"] == "close"
    assert client.headers["x-headgate-error-source"] == "gateway"
    assert code_of(client.read_body()) == code
    assert client.is_closed()


def test_head_that_does_not_end_is_cut_in_time(client: RawClient) -> None:
    started = time.monotonic()
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n")
    assert_refused(client, 408, "request_timeout")
    assert time.monotonic() - started < HEADER_SECONDS + 2 * SWEEP_SECONDS + 2


def test_connection_that_says_nothing_is_closed(client: RawClient) -> None:
    started = time.monotonic()
    assert client.is_closed()
    waited = time.monotonic() - started
    assert FIRST_REQUEST_SECONDS * 0.9 < waited < FIRST_REQUEST_SECONDS + SWEEP_SECONDS


def test_slowly_sent_head_gets_no_more_time_than_a_silent_one(client: RawClient) -> None:
    started = time.monotonic()
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\n")
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.05):
            try:
                client.send(b"x-a: b\r\n")
            except OSError:
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    assert client.read_head() == 408
    assert time.monotonic() - started < HEADER_SECONDS + SWEEP_SECONDS
    stop.set()
    dripping.join()


def test_json_body_has_its_time_as_a_whole(client: RawClient, upstream: FakeUpstream) -> None:
    calls = len(upstream.received)
    client.send(client.render("/v1/chat/completions", None, method="POST", content_length="99"))
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.1):
            try:
                client.send(b" ")
            except OSError:
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    started = time.monotonic()
    assert client.read_head() == 408
    assert time.monotonic() - started < BODY_SECONDS + SWEEP_SECONDS
    stop.set()
    dripping.join()
    assert len(upstream.received) == calls


def test_body_that_streams_has_only_its_rate_to_keep(
    client: RawClient, upstream: FakeUpstream
) -> None:
    """It may take longer than a JSON body; a pause after that ends the connection."""
    client.send(client.render("/v1/files", None, method="POST", content_length="24"))
    pause = threading.Event()
    started = time.monotonic()
    for _ in range(24):
        pause.wait(0.1)
        client.send(b"x")
    assert client.read_answer() == (200, b'{"n": 24}')
    assert time.monotonic() - started > BODY_SECONDS
    client.send(client.render("/v1/files", None, method="POST", content_length="8"))
    client.send(b"x")
    started = time.monotonic()
    assert_refused(client, 408, "request_timeout")
    assert time.monotonic() - started < 2 * GRACE_SECONDS + SWEEP_SECONDS


def test_dripping_body_is_cut_before_its_time_as_a_whole(client: RawClient) -> None:
    client.send(client.render("/v1/files", None, method="POST", content_length="1000"))
    client.send(b" " * 900)
    started = time.monotonic()
    assert_refused(client, 408, "request_timeout")
    assert GRACE_SECONDS < time.monotonic() - started < 2 * GRACE_SECONDS + SWEEP_SECONDS


def test_idle_connection_is_closed_after_its_time(client: RawClient) -> None:
    client.ask(body=CHAT)
    client.read_answer()
    started = time.monotonic()
    assert client.is_closed()
    assert KEEPALIVE_SECONDS * 0.9 < time.monotonic() - started < KEEPALIVE_SECONDS + SWEEP_SECONDS


def test_client_that_never_reads_is_disconnected(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.script = lambda received: received.answer(b'{"a":"%b"}' % (b"x" * (32 << 20)))
    with RawClient(gateway.port, gateway.key, receive_bytes=4096) as client:
        client.ask(body=CHAT)
        assert client.read_head() == 200
        threading.Event().wait(1 + SWEEP_SECONDS)
        with pytest.raises((ValueError, ConnectionError)):
            client.read_body()


def test_connections_over_the_limit_are_refused(gateway: Gateway, client: RawClient) -> None:
    client.ask(body=CHAT)
    client.read_answer()
    lines = [RawClient(gateway.port, gateway.key) for _ in range(CONNECTIONS_MAX)]
    try:
        statuses: list[int] = []
        for each in lines[-1:]:
            statuses.append(each.read_head())
            assert each.headers["retry-after"] == "1"
            assert code_of(each.read_body()) == "too_many_connections"
        assert statuses == [503]
        client.ask(body=CHAT)
        assert client.read_answer()[0] == 200
    finally:
        for each in lines:
            each.close()


def test_requests_over_the_limit_are_refused(gateway: Gateway, upstream: FakeUpstream) -> None:
    go_on = threading.Event()
    begun = threading.Semaphore(0)

    def answer(received: Any) -> None:
        begun.release()
        go_on.wait(5)
        received.answer(b"{}")

    upstream.script = answer
    lines = [RawClient(gateway.port, gateway.key) for _ in range(IN_FLIGHT_MAX)]
    for each in lines:
        each.ask(body=CHAT)
        assert begun.acquire(timeout=5)
    with RawClient(gateway.port, gateway.key) as late:
        late.ask(body=CHAT)
        assert late.read_head() == 503
        assert late.headers["retry-after"] == "1"
        assert late.headers["x-headgate-error-source"] == "gateway"
        assert code_of(late.read_body()) == "overloaded"
        late.ask("/health/live")
        assert late.read_answer()[0] == 200
        go_on.set()
        for each in lines:
            assert each.read_answer()[0] == 200
        late.ask(body=CHAT)
        assert late.read_answer()[0] == 200
    for each in lines:
        each.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:4600", "GATE.example", "gate.example:1"])
def test_listed_host_is_served(client: RawClient, host: str) -> None:
    client.ask(body=CHAT, host=host)
    assert client.read_answer()[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "gate.example.evil", "localhost", "[::1]", "10.0.0.1"]
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health/live"])
def test_unlisted_host_is_refused_as_misdirected(client: RawClient, path: str, host: str) -> None:
    client.ask(path, CHAT, host=host)
    assert_refused(client, 421, "host_not_allowed")


def test_upgrade_is_refused_with_a_reason(client: RawClient) -> None:
    client.ask("/v1/realtime", connection="upgrade", upgrade="websocket")
    assert_refused(client, 426, "websocket_unsupported")


def test_continue_is_sent_before_the_body_and_not_for_a_refused_head(
    client: RawClient, gateway: Gateway
) -> None:
    head = client.render(
        "/v1/chat/completions",
        None,
        method="POST",
        expect="100-continue",
        content_length=str(len(CHAT)),
    )
    client.send(head)
    assert client.reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert client.reader.readline() == b"\r\n"
    client.send(CHAT)
    assert client.read_answer() == (200, b'{"n": %d}' % len(CHAT))
    with RawClient(gateway.port, "hg_live_wrong") as other:
        other.send(head.replace(gateway.key.encode(), b"hg_live_wrong"))
        assert other.read_head() == 401


def test_chunked_request_is_put_together(client: RawClient) -> None:
    head = client.render("/v1/chat/completions", None, method="POST", transfer_encoding="chunked")
    pieces = [CHAT[at : at + 7] for at in range(0, len(CHAT), 7)]
    body = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    for _ in range(2):
        client.send(head + body + b"0\r\nx-trailer: 1\r\n\r\n")
        assert client.read_answer() == (200, b'{"n": %d}' % len(CHAT))


def test_body_that_announces_too_much_is_refused_by_its_head(
    client: RawClient, upstream: FakeUpstream
) -> None:
    calls = len(upstream.received)
    client.send(client.render("/v1/chat/completions", None, method="POST", content_length="100001"))
    client.send(b" " * 65_537)
    assert client.read_head() == 413
    assert code_of(client.read_body()) == "request_too_large"
    assert len(upstream.received) == calls


def test_chunked_body_is_cut_at_the_limit(client: RawClient) -> None:
    client.send(
        client.render("/v1/chat/completions", None, method="POST", transfer_encoding="chunked")
    )
    client.send(b"ffff\r\n%b\r\n" % (b" " * 65_535) * 2)
    assert client.read_head() == 413
    assert code_of(client.read_body()) == "request_too_large"


def test_body_of_an_unauthenticated_caller_is_hardly_read(gateway: Gateway) -> None:
    with RawClient(gateway.port, "hg_live_wrong") as client:
        client.send(
            client.render("/v1/chat/completions", None, method="POST", content_length="99999")
        )
        client.send(b" " * 66_000)
        assert client.read_head() == 401


BODY = b"0\r\n\r\n"
AMBIGUOUS = {
    "length and coding": b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    "coding and length": b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
    "two lengths": b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
    "two equal lengths": b"content-length: 5\r\ncontent-length: 5\r\n\r\n",
    "length list": b"content-length: 5, 5\r\n\r\n",
    "signed length": b"content-length: +5\r\n\r\n",
    "hexadecimal length": b"content-length: 0x5\r\n\r\n",
    "coding not last": b"transfer-encoding: chunked, identity\r\n\r\n",
    "unknown coding": b"transfer-encoding: xchunked\r\n\r\n",
    "coding twice": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    "space before colon": b"content-length : 5\r\n\r\n",
    "folded header": b"x-a: b\r\n content-length: 5\r\n\r\n",
    "bare line feed": b"x-a: b\ncontent-length: 5\r\n\r\n",
    "bare return": b"x-a: b\rcontent-length: 5\r\n\r\n",
    "NUL in a value": b"x-a: b\x00c\r\ncontent-length: 5\r\n\r\n",
    "second host": b"host: 127.0.0.1\r\ncontent-length: 5\r\n\r\n",
}


@pytest.mark.parametrize("fields", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_request_is_refused_and_ends_the_connection(
    client: RawClient, gateway: Gateway, upstream: FakeUpstream, fields: bytes
) -> None:
    calls = len(upstream.received)
    head = (
        b"POST /v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        b"authorization: Bearer " + gateway.key.encode() + b"\r\n"
    )
    smuggled = client.render("/v1/models", None)
    client.send(head + fields + BODY + smuggled)
    assert client.read_head() == 400
    assert client.headers["connection"] == "close"
    client.read_body()
    assert client.is_closed()
    assert len(upstream.received) == calls


def test_old_client_cannot_use_a_coding_that_it_does_not_know(client: RawClient) -> None:
    client.send(b"POST /v1/files HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n" + BODY)
    assert_refused(client, 400, "malformed_request")


def test_request_without_a_host_is_refused(client: RawClient) -> None:
    client.send(b"GET /health/live HTTP/1.1\r\n\r\n")
    assert_refused(client, 400, "malformed_request")


def test_nothing_is_read_after_a_refused_head(client: RawClient, upstream: FakeUpstream) -> None:
    calls = len(upstream.received)
    long = client.render("/v1/" + "x" * 9_000, None)
    client.send(long + client.render("/v1/chat/completions", CHAT))
    assert_refused(client, 414, "target_too_long")
    assert len(upstream.received) == calls


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"x-a: b\r\n" * 200, 431),
        (b"x-a: " + b"b" * 70_000 + b"\r\n", 431),
        (b"x-" + b"a" * 70_000 + b": b\r\n", 431),
    ],
)
def test_head_that_is_too_large_is_refused(client: RawClient, fields: bytes, status: int) -> None:
    client.send(b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n" + fields + b"\r\n")
    assert client.read_head() == status


def test_endless_trailers_are_cut(client: RawClient) -> None:
    client.send(
        client.render("/v1/chat/completions", None, method="POST", transfer_encoding="chunked")
    )
    client.send(b"%x\r\n%b\r\n0\r\n" % (len(CHAT), CHAT))
    started = time.monotonic()
    while time.monotonic() - started < BODY_SECONDS + SWEEP_SECONDS:
        try:
            client.send(b"x-a: " + b"b" * 1000 + b"\r\n")
        except OSError:
            return
    raise AssertionError("they are still read")


def test_method_that_nobody_knows_is_refused(client: RawClient, upstream: FakeUpstream) -> None:
    calls = len(upstream.received)
    client.ask("/v1/some/future/address", method="M-SEARCH")
    assert client.read_head() == 405
    assert code_of(client.read_body()) == "method_not_allowed"
    assert len(upstream.received) == calls


def test_name_of_a_model_cannot_add_a_header(client: RawClient) -> None:
    client.ask(body={"model": "a\r\nset-cookie: b=c", "messages": []})
    assert client.read_answer()[0] == 200
    assert "set-cookie" not in client.headers
    assert client.headers["x-headgate-model"] == "a??set-cookie: b=c"


def test_pipelined_head_deadline_does_not_end_a_running_stream(
    client: RawClient, upstream: FakeUpstream
) -> None:
    """The second request stays incomplete for longer than its deadline, while the first is
    answered.
    """
    pause = threading.Event()

    def answer(received: Any) -> None:
        received.begin_stream()
        for _ in range(4):
            pause.wait(max(BODY_SECONDS, HEADER_SECONDS) / 2)
            received.send_chunk(b'data: {"choices":[]}\n\n')
        received.send_chunk(b"data: [DONE]\n\n")
        received.send_end()

    upstream.script = answer
    client.ask(body={"model": "m", "messages": [], "stream": True})
    client.send(client.render("/v1/chat/completions", CHAT)[:-5])
    assert client.read_head() == 200
    assert client.read_body().endswith(b"data: [DONE]\n\n")
    assert client.read_head() == 408
