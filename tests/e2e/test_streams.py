"""Streams through a real server, byte by byte (laws 1, 3 and 4)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.server_database import ServerDatabase
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream

GOLDEN = Path(__file__).parents[1] / "golden"
TEXT = (
    b'data: {"id":"chatcmpl-1","model":"gpt-5.4-mini","object":"chat.completion.chunk","created":1,'
    b'"choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}]}\n\n'
)
USAGE = (
    b'data: {"id":"chatcmpl-1","model":"gpt-5.4-mini","choices":[],'
    b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}\n\n'
)
DELTA = (
    b"event: response.output_text.delta\n"
    b'data: {"type":"response.output_text.delta","delta":"hello","sequence_number":4}\n\n'
)
DONE = b"data: [DONE]\n\n"
CHAT: dict[str, Any] = {"model": "gpt-5.4-mini", "messages": [], "stream": True}
PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "images": "/v1/images/generations",
    "audio": "/v1/audio/transcriptions",
}


@pytest.fixture(scope="module")
def upstream() -> Generator[FakeUpstream]:
    with running_upstream() as fake:
        yield fake


@pytest.fixture(scope="module")
def gateway(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway]:
    data = tmp_path_factory.mktemp("streams") / "data"
    with running_gateway(data, provider_url=upstream.base_url) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Generator[RawClient]:
    with RawClient(gateway.port, gateway.key) as opened:
        yield opened


def script(
    *chunks: bytes, then: Callable[[ReceivedRequest], None] = ReceivedRequest.send_end
) -> Any:
    def answer(received: ReceivedRequest) -> None:
        received.begin_stream()
        for chunk in chunks:
            received.send_chunk(chunk)
        then(received)

    return answer


def newest(gateway: Gateway) -> dict[str, Any]:
    return ServerDatabase(gateway.data).receipts()[-1]


def test_each_chunk_arrives_before_the_provider_sends_the_next(
    upstream: FakeUpstream, client: RawClient
) -> None:
    read = threading.Event()

    def answer(received: ReceivedRequest) -> None:
        received.begin_stream()
        for _ in range(20):
            received.send_chunk(TEXT)
            assert read.wait(5)
            read.clear()
        received.send_chunk(USAGE + DONE)
        received.send_end()

    upstream.script = answer
    client.ask(body=CHAT)
    assert client.read_head() == 200
    for _ in range(20):
        assert client.read_piece() == TEXT
        read.set()
    assert client.read_body() == DONE


def test_head_arrives_before_the_first_event(upstream: FakeUpstream, client: RawClient) -> None:
    read = threading.Event()

    def answer(received: ReceivedRequest) -> None:
        received.begin_stream({"x-request-id": "req_upstream"})
        assert read.wait(5)
        received.send_chunk(DONE)
        received.send_end()

    upstream.script = answer
    client.ask(body=CHAT)
    assert client.read_head() == 200
    assert client.headers["x-request-id"] == "req_upstream"
    read.set()
    assert client.read_body() == DONE


def test_receipt_is_committed_before_the_last_event_arrives(
    upstream: FakeUpstream, gateway: Gateway
) -> None:
    upstream.script = script(TEXT, USAGE, DONE)
    server_database = ServerDatabase(gateway.data)
    with RawClient(gateway.port, gateway.key) as client:
        for _ in range(20):
            before = server_database.count()
            client.ask(body=CHAT)
            assert client.read_head() == 200
            while client.read_piece() != DONE:
                pass
            assert server_database.count() == before + 1
            assert client.read_piece() == b""
    receipt = newest(gateway)
    assert (receipt["outcome"], receipt["estimated"]) == ("completed", 0)
    assert receipt["usage"] == {"input_tokens": 1000, "output_tokens": 100}
    assert receipt["cost_nano"] == 1_200_000


def test_usage_event_is_sent_only_to_clients_that_asked(
    upstream: FakeUpstream, client: RawClient
) -> None:
    upstream.script = script(TEXT, USAGE, DONE)
    client.ask(body=CHAT)
    assert client.read_answer() == (200, TEXT + DONE)
    assert upstream.received[-1].json["stream_options"] == {"include_usage": True}
    client.ask(body=CHAT | {"stream_options": {"include_usage": True}})
    assert client.read_answer() == (200, TEXT + USAGE + DONE)


def test_streamed_costs_what_buffered_costs(
    upstream: FakeUpstream, gateway: Gateway, client: RawClient
) -> None:
    upstream.script = script(TEXT, USAGE, DONE)
    client.ask(body=CHAT)
    client.read_answer()
    streamed = newest(gateway)
    chunk = json.loads(USAGE.removeprefix(b"data: "))
    upstream.script = lambda received: received.answer(json.dumps(chunk).encode())
    client.ask(body={"model": "gpt-5.4-mini", "messages": []})
    client.read_answer()
    buffered = newest(gateway)
    for name in ("usage", "cost_nano", "price_id", "pricing", "outcome", "model_served"):
        assert streamed[name] == buffered[name], name


def sample_cuts(data: bytes) -> list[list[bytes]]:
    """Return the stream in two parts, cut at forty places, and once in single bytes."""
    step = max(1, len(data) // 40)
    halves = [[data[:at], data[at:]] for at in range(1, len(data), step)]
    return [*halves, [bytes([byte]) for byte in data[:3000]] + [data[3000:]]]


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*/*.sse")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_stream_of_every_wire_is_the_same_at_any_cut(
    upstream: FakeUpstream, gateway: Gateway, client: RawClient, path: Path
) -> None:
    data = path.read_bytes()
    facts: set[str] = set()
    for chunks in sample_cuts(data):
        upstream.script = script(*(chunk for chunk in chunks if chunk))
        client.ask(
            PATHS[path.parent.name],
            {"model": "gpt-5.4-mini", "stream_options": {"include_usage": True}, "stream": True},
        )
        assert client.read_answer() == (200, data)
        receipt = newest(gateway)
        facts.add(str([receipt[name] for name in ("outcome", "usage", "cost_nano", "pricing")]))
    assert len(facts) == 1


def test_audio_passes_unchanged(
    upstream: FakeUpstream, gateway: Gateway, client: RawClient
) -> None:
    read = threading.Event()
    sound = bytes(range(256)) * 16

    def answer(received: ReceivedRequest) -> None:
        received.send_head(200, {"content-type": "audio/mpeg", "transfer-encoding": "chunked"})
        received.send_chunk(sound)
        assert read.wait(5)
        received.send_chunk(sound)
        received.send_end()

    upstream.script = answer
    client.ask("/v1/audio/speech", {"model": "gpt-4o-mini-tts", "input": "hi", "voice": "alloy"})
    assert client.read_head() == 200
    assert client.headers["content-type"] == "audio/mpeg"
    first = client.read_piece()
    assert first == sound[:-1]
    read.set()
    assert first + client.read_body() == sound * 2
    assert newest(gateway)["outcome"] == "completed"


def test_stream_of_an_unknown_wire_goes_on_as_it_comes(
    upstream: FakeUpstream, gateway: Gateway, client: RawClient
) -> None:
    read = threading.Event()

    def answer(received: ReceivedRequest) -> None:
        received.begin_stream()
        received.send_chunk(b"event: thread.created\ndata: {}\n\n")
        assert read.wait(5)
        received.send_chunk(b"event: done\ndata: [DONE]\n\n")
        received.send_end()

    upstream.script = answer
    client.ask("/v1/threads/t_1/runs", {"assistant_id": "a", "stream": True})
    assert client.read_head() == 200
    assert client.read_piece() == b"event: thread.created\ndata: {}\n\n"
    read.set()
    assert client.read_body() == b"event: done\ndata: [DONE]\n\n"
    assert newest(gateway)["pricing"] == "unpriced"


@pytest.mark.parametrize("mebibytes", [3, 9])
def test_last_event_of_a_response_may_have_many_mebibytes(
    upstream: FakeUpstream, gateway: Gateway, client: RawClient, mebibytes: int
) -> None:
    image = "A" * (mebibytes << 20)
    response = {
        "id": "resp_1",
        "model": "gpt-5.4-mini",
        "status": "completed",
        "output": [{"type": "image_generation_call", "result": image}],
        "usage": {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30},
    }
    event = {"type": "response.completed", "sequence_number": 1, "response": response}
    data = b"event: response.completed\ndata: " + json.dumps(event).encode() + b"\n\n"
    upstream.script = script(*(data[at : at + 60_000] for at in range(0, len(data), 60_000)))
    client.ask("/v1/responses", {"model": "gpt-5.4-mini", "input": "draw", "stream": True})
    assert client.read_answer() == (200, data)
    assert newest(gateway)["outcome"] == "completed"
    assert newest(gateway)["usage"]["output_tokens"] == 20


def end_cleanly(received: ReceivedRequest) -> None:
    received.send_end()


def reset_inside_an_event(received: ReceivedRequest) -> None:
    received.send_chunk(TEXT[:50])
    received.reset()


def close_without_an_end(received: ReceivedRequest) -> None:
    received.close()


def send_an_endless_event(received: ReceivedRequest) -> None:
    received.send_chunk(b"data: " + b"x" * (2 << 20))
    received.send_end()


FAULTS = [end_cleanly, reset_inside_an_event, close_without_an_end, send_an_endless_event]


@pytest.mark.parametrize(
    ("wire", "fault"),
    # A response's event may be as large as an answer, so that an endless one is no fault there.
    [*(("chat", fault) for fault in FAULTS), *(("responses", fault) for fault in FAULTS[:3])],
)
def test_broken_stream_ends_in_the_error_event_of_its_wire(
    upstream: FakeUpstream, gateway: Gateway, fault: Any, wire: str
) -> None:
    first = TEXT if wire == "chat" else DELTA
    read = threading.Event()

    def break_off(received: ReceivedRequest) -> None:
        assert read.wait(5)
        fault(received)

    upstream.script = script(first, then=break_off)
    calls = len(upstream.received)
    with RawClient(gateway.port, gateway.key) as client:
        client.ask(PATHS[wire], CHAT)
        assert client.read_head() == 200
        assert client.read_piece() == first
        read.set()
        frame = client.read_body()
        error = json.loads(frame.rpartition(b"data: ")[2])
        if wire == "chat":
            assert frame.startswith(b"data: ")
            assert error["error"]["type"] == "upstream_error"
        else:
            assert frame.startswith(b"event: error\n")
            assert (error["type"], error["sequence_number"]) == ("error", 5)
    receipt = newest(gateway)
    assert receipt["outcome"] == "unknown"
    assert (receipt["estimated"], receipt["pricing"]) == (1, "priced")
    assert receipt["cost_nano"] > 0
    assert len(upstream.received) == calls + 1, "nothing is tried again after the first byte"


# Of an event over the limit a part has left, at which the SDK stumbles before it reads the error.
@pytest.mark.parametrize("fault", FAULTS[:3], ids=lambda fault: fault.__name__)
def test_sdk_raises_its_own_error_for_a_stream_that_breaks(
    upstream: FakeUpstream, gateway: Gateway, fault: Any
) -> None:
    upstream.script = script(TEXT, then=fault)
    calls = len(upstream.received)
    client = gateway.sdk()
    stream = client.chat.completions.create(model="gpt-5.4-mini", messages=[], stream=True)
    with pytest.raises(openai.APIError):
        _ = [chunk.choices[0].delta.content for chunk in stream]
    assert len(upstream.received) == calls + 1


def test_error_in_band_reaches_the_sdk_and_what_was_delivered_is_estimated(
    upstream: FakeUpstream, gateway: Gateway
) -> None:
    upstream.script = script(TEXT, b'data: {"error":{"message":"boom","code":"server_error"}}\n\n')
    client = gateway.sdk()
    stream = client.chat.completions.create(model="gpt-5.4-mini", messages=[], stream=True)
    with pytest.raises(openai.APIError, match="boom"):
        _ = list(stream)
    receipt = newest(gateway)
    assert (receipt["outcome"], receipt["error_code"]) == ("upstream_error", "server_error")
    assert receipt["estimated"] == 1


def test_malformed_event_is_passed_on_and_the_stream_goes_on(
    upstream: FakeUpstream, gateway: Gateway, client: RawClient
) -> None:
    upstream.script = script(b"data: {no json\n\n", TEXT, USAGE, DONE)
    client.ask(body=CHAT)
    assert client.read_answer() == (200, b"data: {no json\n\n" + TEXT + DONE)
    assert newest(gateway)["outcome"] == "completed"


def test_audio_that_is_cut_ends_without_its_last_chunk(
    upstream: FakeUpstream, gateway: Gateway
) -> None:
    def answer(received: ReceivedRequest) -> None:
        received.send_head(200, {"content-type": "audio/mpeg", "transfer-encoding": "chunked"})
        received.send_chunk(b"\x00" * 100)
        received.reset()

    upstream.script = answer
    with RawClient(gateway.port, gateway.key) as client:
        client.ask("/v1/audio/speech", {"model": "gpt-4o-mini-tts", "input": "hi"})
        assert client.read_head() == 200
        with pytest.raises(ValueError, match="invalid literal"):
            client.read_body()
    assert newest(gateway)["outcome"] == "unknown"


def test_connection_is_kept_after_a_stream(upstream: FakeUpstream, client: RawClient) -> None:
    upstream.script = script(TEXT, USAGE, DONE)
    for _ in range(3):
        client.ask(body=CHAT)
        assert client.read_answer() == (200, TEXT + DONE)
    connections = {received.connection for received in upstream.received[-3:]}
    assert len(connections) == 1, "and so is the provider's"


def test_client_of_http_1_0_gets_a_body_that_ends_with_the_connection(
    upstream: FakeUpstream, gateway: Gateway
) -> None:
    upstream.script = script(TEXT, USAGE, DONE)
    with RawClient(gateway.port, gateway.key) as client:
        client.ask(body=CHAT, version="1.0")
        assert client.read_head() == 200
        assert "transfer-encoding" not in client.headers
        assert client.reader.read() == TEXT + DONE


def test_head_request_gets_no_body(upstream: FakeUpstream, client: RawClient) -> None:
    def answer(received: ReceivedRequest) -> None:
        received.send_head(200, {"content-type": "application/json", "content-length": "99"})

    upstream.script = answer
    for _ in range(2):
        client.ask("/v1/models", method="HEAD")
        assert client.read_head() == 200
    assert upstream.received[-1].method == "HEAD"


@pytest.mark.parametrize("status", [204, 304])
def test_answer_without_a_body_keeps_the_connection_usable(
    upstream: FakeUpstream, client: RawClient, status: int
) -> None:
    upstream.script = lambda received: received.send_head(status, {"etag": "x"})
    for _ in range(2):
        client.ask("/v1/files/file-1")
        assert client.read_head() == status
        assert "transfer-encoding" not in client.headers
        assert "content-length" not in client.headers


def test_pipelined_requests_are_answered_in_order(
    upstream: FakeUpstream, client: RawClient
) -> None:
    def answer(received: ReceivedRequest) -> None:
        if received.json.get("stream"):
            script(TEXT, USAGE, DONE)(received)
        else:
            received.answer(json.dumps({"echo": received.json["n"]}).encode())

    upstream.script = answer
    received = [
        client.render("/v1/chat/completions", {"model": "m", "n": 1}),
        client.render("/v1/chat/completions", CHAT),
        client.render("/health/live", None),
        client.render("/v1/chat/completions", {"model": "m", "n": 2}),
        client.render("/v1/embeddings", b"{no json"),
        client.render("/v1/chat/completions", {"model": "m", "n": 3}),
    ]
    client.send(b"".join(received))
    assert client.read_answer() == (200, b'{"echo": 1}')
    assert client.read_answer() == (200, TEXT + DONE)
    assert client.read_answer() == (200, b'{"status":"live"}')
    assert client.read_answer() == (200, b'{"echo": 2}')
    assert client.read_answer()[0] == 400
    assert client.read_answer() == (200, b'{"echo": 3}')


def test_slow_client_pauses_the_provider_and_costs_no_memory(
    upstream: FakeUpstream, gateway: Gateway
) -> None:
    event = TEXT.replace(b"hello", b"x" * 60_000)
    total, blocked = 2_000, threading.Event()
    sent = [0]

    def answer(received: ReceivedRequest) -> None:
        received.begin_stream()
        received.connection.settimeout(1.0)
        try:
            while sent[0] < total:
                received.send_chunk(event)
                sent[0] += 1
        except TimeoutError:
            blocked.set()

    upstream.script = answer
    process = psutil.Process(gateway.process.pid)
    before = process.memory_info().rss
    with RawClient(gateway.port, gateway.key, receive_bytes=4096) as client:
        client.ask(body=CHAT)
        assert client.read_head() == 200
        assert blocked.wait(20), "the provider could send it all"
        assert sent[0] * len(event) < 40 << 20
        assert process.memory_info().rss - before < 8 << 20


def test_slow_client_gets_every_byte_in_the_end(upstream: FakeUpstream, gateway: Gateway) -> None:
    event = TEXT.replace(b"hello", b"x" * 60_000)
    upstream.script = script(*[event] * 300, USAGE, DONE)
    with RawClient(gateway.port, gateway.key, receive_bytes=4096) as client:
        client.ask(body=CHAT)
        assert client.read_head() == 200
        assert client.read_body() == event * 300 + DONE


def test_slow_provider_costs_no_processor(upstream: FakeUpstream, gateway: Gateway) -> None:
    stalled, go_on = threading.Event(), threading.Event()

    def answer(received: ReceivedRequest) -> None:
        received.begin_stream()
        received.send_chunk(TEXT)
        stalled.set()
        go_on.wait(1.0)
        received.send_chunk(USAGE + DONE)
        received.send_end()

    upstream.script = answer
    process = psutil.Process(gateway.process.pid)
    with RawClient(gateway.port, gateway.key) as client:
        client.ask(body=CHAT)
        assert stalled.wait(5)
        before = sum(process.cpu_times()[:2])
        client.read_answer()
        assert sum(process.cpu_times()[:2]) - before < 0.25


def test_client_that_reads_no_answer_gets_no_further_one(
    upstream: FakeUpstream, gateway: Gateway
) -> None:
    """Pipelined requests of a client that does not read buffer no answers in memory."""
    body = json.dumps({"text": "x" * 1_000_000}).encode()
    upstream.script = lambda received: received.answer(body)
    before = len(upstream.received)
    with RawClient(gateway.port, gateway.key, receive_bytes=4096) as client:
        request = client.render("/v1/chat/completions", {"model": "m"})
        client.send(request * 30)
        assert client.read_head() == 200
        assert len(upstream.received) - before < 20
        for _ in range(29):
            client.read_body()
            client.read_head()
        client.read_body()
    assert len(upstream.received) - before == 30
