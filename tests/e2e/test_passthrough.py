"""What passes through the gateway passes unchanged, and what must not pass is removed."""

from __future__ import annotations

import gzip
import hashlib
import random
import threading
from collections.abc import Generator
from typing import Any

import psutil
import pytest

from tests.fakes.harness import JSON_TYPE, Harness, running_harness
from tests.fakes.http_connection import check_error, encode_head, open_http_connection
from tests.fakes.upstream import ReceivedRequest

CHAT = "/v1/chat/completions"
MEBIBYTE = 1 << 20
LARGE_BYTES = 20 * MEBIBYTE
USAGE = '"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}'
COMPLETION = b'{"id":"chatcmpl-1","model":"gpt-5.4-mini","choices":[],%b}' % USAGE.encode()


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    with running_harness(tmp_path_factory.mktemp("passthrough") / "data") as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    return module_harness


def make_json(draw: random.Random, depth: int = 0) -> str:
    """Return JSON as no encoder of the gateway would write it: spaces, escapes, odd numbers."""
    kind = draw.randrange(9 if depth < 4 else 6)
    if kind == 0:
        return draw.choice(["null", "true", "false", " [ ] ", "{\t}"])
    if kind == 1:
        return draw.choice(["1.50", "-0", "-0.0", "1E+5", "1e-7", "0.1000000000000000055", "1e300"])
    if kind == 2:
        return str(draw.choice([1, -1]) * draw.getrandbits(draw.choice([8, 53, 64, 200])))
    if kind < 6:
        escapes = ["\\u00e9", "é", "\\/", "\\ud83d\\ude00", "🐎", "\\u0000", "\\n", "\\u2028", "x"]
        return '"' + "".join(draw.choices(escapes, k=draw.randrange(5))) + '"'
    if kind == 6:
        return "[" + " , ".join(make_json(draw, depth + 1) for _ in range(3)) + "]"
    fields = (f'"k{draw.getrandbits(30)}" :{make_json(draw, depth + 1)}' for _ in range(3))
    return "{" + ",\n".join(fields) + "}"


@pytest.mark.parametrize("target", [CHAT, "/v1/responses", "/v1/embeddings", "/v1/images/edits"])
@pytest.mark.parametrize("seed", range(5))
def test_json_survives_both_ways_byte_for_byte(harness: Harness, target: str, seed: int) -> None:
    draw = random.Random(seed)
    novel = [f'"novel{number}": {make_json(draw)}' for number in range(20)]
    sent = f'{{ "model":"gpt-5.4-mini" ,{",".join(novel)} }}\n'.encode()
    said = f'{{"id" : "x",{",".join(reversed(novel))}, {USAGE}}} '.encode()
    harness.answer_with(lambda received: received.answer(said))
    answered = harness.post(target, sent)
    assert (answered.status, answered.body) == (200, said)
    assert harness.upstream.received[0].body == sent


def test_fields_that_the_gateway_reads_keep_their_bytes(harness: Harness) -> None:
    sent = b'{"mod\\u0065l":"gpt-\\u0035.4-mini","n" : 1,"max_tokens":5,"stream":false}'
    harness.answer_with(lambda received: received.answer(COMPLETION))
    answered = harness.post(CHAT, sent)
    assert answered.headers["x-headgate-model"] == "gpt-5.4-mini"
    assert harness.upstream.received[0].body == sent


@pytest.mark.parametrize("target", [CHAT, "/v1/responses", "/v1/embeddings", "/v1/completions"])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "envelope",
    [
        '"vmx":{"resource":"a"}',
        '"__vmx_passthrough":true',
        '"vmx":null,"__vmx_passthrough":{"a":[1]}',
        '"\\u0076mx":{"escaped":1}',
    ],
)
def test_envelopes_of_the_platform_do_not_reach_the_provider(
    harness: Harness, target: str, streamed: bool, envelope: str
) -> None:
    stream = ', "stream":true' if streamed else ""
    sent = f'{{"model":"m","seed":1.50,{envelope},"vm":1{stream}}}'.encode()
    harness.answer_with(answer_stream if streamed else lambda received: received.answer(COMPLETION))
    assert harness.post(target, sent).status == 200
    (received,) = harness.upstream.received
    assert b"vmx" not in received.body
    assert b'"seed":1.50' in received.body
    assert received.json["vm"] == 1


EVENTS = [
    b'data: {"id":"c1","model":"gpt-5.4-mini","choices":[{"delta":{"content":"H\xc3\xa9"}}]}\n\n',
    b": a comment\n\n",
    b'event: novel\ndata: {"novel": 1.50,"choices":[]}\nid: 7\nretry: 10\n\n',
    b'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\n\r\n',
    b'data: {"id":"c1","model":"gpt-5.4-mini","choices":[],%b}\n\n' % USAGE.encode(),
    b"data: [DONE]\n\n",
]


def answer_stream(received: ReceivedRequest) -> None:
    received.begin_stream()
    for event in EVENTS:
        received.send_chunk(event)
    received.send_end()


def test_stream_passes_byte_for_byte_without_the_usage_that_was_not_asked_for(
    harness: Harness,
) -> None:
    harness.answer_with(answer_stream)
    answered = harness.post(CHAT, b'{"model":"gpt-5.4-mini","stream":true}')
    assert answered.body == b"".join(EVENTS[:4] + EVENTS[5:])
    assert harness.upstream.received[0].json["stream_options"] == {"include_usage": True}
    receipt = harness.receipts.take_one()
    # 1,000 tokens at $0.75 and 100 at $4.50 for a million.
    assert (receipt.cost_nano, receipt.streamed) == (1_200_000, True)


@pytest.mark.parametrize("options", ['{"include_usage":true}', '{"include_usage": true, "x":1}'])
def test_stream_passes_whole_where_the_usage_was_asked_for(harness: Harness, options: str) -> None:
    harness.answer_with(answer_stream)
    sent = f'{{"model":"gpt-5.4-mini","stream":true, "stream_options":{options}}}'.encode()
    assert harness.post(CHAT, sent).body == b"".join(EVENTS)
    assert harness.upstream.received[0].body == sent
    assert harness.receipts.take_one().cost_nano == 1_200_000


def test_usage_is_asked_for_even_where_the_client_declines_it(harness: Harness) -> None:
    harness.answer_with(answer_stream)
    sent = b'{"model":"m","stream":true,"stream_options":{"include_usage":false,"novel":1.50}}'
    answered = harness.post(CHAT, sent)
    assert USAGE.encode() not in answered.body
    assert b'"novel":1.50' in harness.upstream.received[0].body


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "target",
    [
        "/v1/something/new",
        "/v1/something/new?limit=2&after=a%20b%2Fc&x=1&x=2&empty=&=v&q=%F0%9F%90%8E",
        "/v1/something/with-_.~!$&'()*+,;=:@/in?it=/?",
        "/v1/something/caf%C3%A9",
    ],
)
def test_unknown_address_passes_with_its_query(harness: Harness, method: str, target: str) -> None:
    said = b'{"deep": 1.50, "model":"m"}'
    harness.answer_with(lambda received: received.answer(said, status=201))
    body = None if method in ("GET", "DELETE", "OPTIONS") else b'{"x": 1.50}'
    answered = harness.ask(method, target, JSON_TYPE, body)
    assert (answered.status, answered.body) == (201, said)
    (received,) = harness.upstream.received
    assert (received.method, received.target, received.body) == (method, target, body or b"")
    receipt = harness.receipts.take_one()
    assert (receipt.endpoint, receipt.method, receipt.pricing) == ("other", method, "unpriced")
    assert (receipt.status, receipt.outcome) == (201, "completed")


def test_delete_may_carry_a_body(harness: Harness) -> None:
    harness.ask("DELETE", "/v1/something/new", JSON_TYPE, b'{"x": 1.50}')
    assert harness.upstream.received[0].body == b'{"x": 1.50}'


@pytest.mark.parametrize("status", [204, 205, 304])
def test_answer_without_a_body_leaves_the_connection_whole(harness: Harness, status: int) -> None:
    harness.answer_with(
        lambda received: received.send_head(status, {"etag": '"a"'} | no_length(status))
    )
    with open_http_connection(harness.gateway.port) as kept:
        for _ in range(3):
            kept.send(encode_head("DELETE", "/v1/files/file-1", harness.authorization))
            answered = kept.read("DELETE")
            assert (answered.status, answered.body) == (status, b"")
            assert "transfer-encoding" not in answered.headers
            assert answered.headers["etag"] == '"a"'


def no_length(status: int) -> dict[str, str]:
    return {"content-length": "0"} if status == 205 else {}


def test_head_request_has_the_length_of_the_body_it_does_not_get(harness: Harness) -> None:
    headers = {"content-type": "application/octet-stream", "content-length": "123456"}
    harness.answer_with(lambda received: received.send_head(200, headers))
    with open_http_connection(harness.gateway.port) as kept:
        for _ in range(2):
            answered = kept.ask("HEAD", "/v1/files/file-1/content", harness.authorization)
            assert answered.headers["content-length"] == "123456"
            assert (answered.status, answered.body) == (200, b"")
    assert [received.method for received in harness.upstream.received] == ["HEAD", "HEAD"]


# Large bodies.


def test_large_upload_streams_through_with_little_memory(harness: Harness) -> None:
    content = random.Random(1).randbytes(LARGE_BYTES)
    head = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = head + content + b"\r\n--x--\r\n"
    sizes: list[int] = []
    process = psutil.Process(harness.gateway.process.pid)

    def take_slowly(received: ReceivedRequest) -> None:
        sizes.append(process.memory_info().rss)
        received.answer(b'{"id":"file-1"}')

    harness.answer_with(take_slowly)
    harness.ask("POST", "/v1/files", {"content-type": "multipart/form-data; boundary=x"}, b"--x--")
    before = process.memory_info().rss
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert harness.ask("POST", "/v1/files", kind, body).body == b'{"id":"file-1"}'
    assert (
        hashlib.sha256(harness.upstream.received[-1].body).digest() == hashlib.sha256(body).digest()
    )
    assert harness.upstream.received[-1].headers["content-length"] == str(len(body))
    assert sizes[-1] - before < LARGE_BYTES / 4


def test_upload_is_slowed_down_to_what_the_provider_takes(harness: Harness) -> None:
    """The provider reads nothing: the sender is stopped, and nothing is buffered in between."""
    process = psutil.Process(harness.gateway.process.pid)
    reading = threading.Event()
    harness.upstream.before_body = lambda: reading.wait(10)
    before = process.memory_info().rss
    headers = {**harness.authorization, "content-length": str(4 * LARGE_BYTES)}
    try:
        with open_http_connection(harness.gateway.port, timeout_seconds=0.5) as sender:
            sender.send(encode_head("POST", "/v1/files", headers))
            with pytest.raises(TimeoutError):
                sender.send(bytes(4 * LARGE_BYTES))
        assert process.memory_info().rss - before < LARGE_BYTES / 4
    finally:
        reading.set()
        harness.upstream.before_body = None


def test_chunked_upload_streams_through(harness: Harness) -> None:
    harness.answer_with(lambda received: received.answer(received.body))
    headers = {**harness.authorization, "transfer-encoding": "chunked"}
    with open_http_connection(harness.gateway.port) as sender:
        sender.send(encode_head("POST", "/v1/uploads/upload_1/parts", headers))
        for piece in (b"one ", b"two ", b"three"):
            sender.send(b"%x;extension=1\r\n%b\r\n" % (len(piece), piece))
        sender.send(b"0\r\ntrailer: 1\r\n\r\n")
        assert sender.read("POST").body == b"one two three"
    assert "trailer" not in harness.upstream.received[0].headers


def test_compressed_body_passes_with_the_header_that_says_so(harness: Harness) -> None:
    body = gzip.compress(b"one")
    kind = {"content-type": "application/octet-stream", "content-encoding": "gzip"}
    assert harness.ask("POST", "/v1/something/new", kind, body).status == 200
    assert harness.upstream.received[0].body == body
    assert harness.upstream.received[0].headers["content-encoding"] == "gzip"


def test_compressed_body_that_would_have_to_be_read_is_refused(harness: Harness) -> None:
    answered = harness.post(CHAT, b"\x1f\x9d", {"content-encoding": "compress"})
    check_error(answered, 415, "unsupported_content_encoding", source="gateway")
    assert harness.upstream.received == []
    assert harness.post(CHAT, b'{"model":"m"}', {"content-encoding": "identity"}).status == 200


@pytest.mark.parametrize("announced", [True, False])
def test_large_download_arrives_whole_with_little_memory(harness: Harness, announced: bool) -> None:
    content = random.Random(2).randbytes(LARGE_BYTES)
    kind = {"content-type": "application/octet-stream", "content-disposition": "attachment"}

    def give(received: ReceivedRequest) -> None:
        if announced:
            received.answer(content, headers=kind)
            return
        received.send_head(200, {**kind, "transfer-encoding": "chunked"})
        for start in range(0, LARGE_BYTES, 100_000):
            received.send_chunk(content[start : start + 100_000])
        received.send_end()

    process = psutil.Process(harness.gateway.process.pid)
    harness.answer_with(lambda received: received.answer(b"x", headers=kind))
    harness.ask("GET", "/v1/files/file-1/content")
    before = process.memory_info().rss
    harness.answer_with(give)
    answered = harness.ask("GET", "/v1/files/file-1/content")
    assert hashlib.sha256(answered.body).digest() == hashlib.sha256(content).digest()
    assert answered.headers.get("content-length") == (str(LARGE_BYTES) if announced else None)
    assert answered.headers["content-disposition"] == "attachment"
    assert process.memory_info().rss - before < LARGE_BYTES / 4


def test_download_that_breaks_off_is_seen_to_be_short(harness: Harness) -> None:
    def break_off(received: ReceivedRequest) -> None:
        kind = {"content-type": "application/octet-stream", "content-length": "1000"}
        received.send_head(200, kind)
        received.send(bytes(500))
        received.reset()

    harness.answer_with(break_off)
    with open_http_connection(harness.gateway.port) as connection:
        connection.send(encode_head("GET", "/v1/files/file-1/content", harness.authorization))
        head, _, body = read_all(connection.socket).partition(b"\r\n\r\n")
    assert b"content-length: 1000" in head
    assert len(body) < 1000
    assert harness.receipts.take_one().outcome != "completed"


def read_all(connection: Any) -> bytes:
    pieces: list[bytes] = []
    while piece := connection.recv(65_536):
        pieces.append(piece)
    return b"".join(pieces)


def test_range_of_a_file_is_asked_for_and_answered(harness: Harness) -> None:
    headers = {
        "content-type": "application/octet-stream",
        "content-range": "bytes 2-4/10",
        "etag": '"v1"',
    }
    harness.answer_with(lambda received: received.answer(b"cde", status=206, headers=headers))
    answered = harness.ask(
        "GET", "/v1/files/file-1/content", {"range": "bytes=2-4", "if-range": '"v1"'}
    )
    assert (answered.status, answered.body) == (206, b"cde")
    assert (answered.headers["content-range"], answered.headers["etag"]) == ("bytes 2-4/10", '"v1"')
    received = harness.upstream.received[0].headers
    assert (received["range"], received["if-range"]) == ("bytes=2-4", '"v1"')
