"""What a provider may send, and what of it reaches the caller: bombs, codings, heads, the key."""

from __future__ import annotations

import gzip
import importlib
import json
import re
import sys
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway import PROVIDER_KEY
from tests.fakes.harness import Harness, running_harness
from tests.fakes.upstream import ReceivedRequest

brotli: Any = importlib.import_module("brotli")
zstd: Any = importlib.import_module(
    "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
)

CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"Hi"}]}'
STREAM = BODY[:-1] + b',"stream":true,"stream_options":{"include_usage":true}}'
COMPLETION = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-5.4-mini",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}'
)
EVENTS = (
    b'data: {"id":"c","model":"gpt-5.4-mini","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    b'data: {"id":"c","model":"gpt-5.4-mini","choices":[],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}\n\n'
    b"data: [DONE]\n\n"
)
MEBIBYTE = 1 << 20
BOMB_COST_BYTES_MAX = 16 * MEBIBYTE
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}
KEY = PROVIDER_KEY.encode()
MASK = b"[removed]".ljust(len(KEY), b"*")


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    data = tmp_path_factory.mktemp("bodies") / "data"
    with running_harness(data, retries_max=0, log_level="debug") as running:
        yield running
        stop_and_look_for_the_key(running)


def stop_and_look_for_the_key(harness: Harness) -> None:
    """Check after all of these tests that the key is in no log, and nowhere on the disk in the
    clear.
    """
    assert KEY not in harness.gateway.log.read_bytes()
    for path in harness.gateway.data.iterdir():
        assert KEY not in path.read_bytes(), path


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    return module_harness


def send_stream(received: ReceivedRequest, body: bytes, coding: str = "", cut: int = 0) -> None:
    received.begin_stream({"content-encoding": coding} if coding else None)
    for chunk in (body[:cut], body[cut:]):
        if chunk:
            received.send_chunk(chunk)
    received.send_end()


@pytest.mark.parametrize("coding", CODINGS)
def test_compressed_answer_is_read_and_goes_on_without_its_coding(
    harness: Harness, coding: str
) -> None:
    headers = {"content-encoding": coding, "etag": '"x"'}
    harness.answer_with(
        lambda received: received.answer(CODINGS[coding](COMPLETION), headers=headers)
    )
    answered = harness.post(CHAT, BODY)
    assert (answered.status, answered.body) == (200, COMPLETION)
    assert not {"content-encoding", "etag"} & set(answered.headers)
    receipt = harness.receipts.take_one()
    assert receipt.usage is not None
    assert (receipt.usage.input_tokens, receipt.usage.output_tokens) == (10, 2)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("cut", [0, 1, 9, 40])
def test_compressed_stream_is_read_and_goes_on_without_its_coding(
    harness: Harness, coding: str, cut: int
) -> None:
    harness.answer_with(
        lambda received: send_stream(received, CODINGS[coding](EVENTS), coding, cut)
    )
    answered = harness.post(CHAT, STREAM)
    assert (answered.status, answered.body) == (200, EVENTS)
    assert "content-encoding" not in answered.headers
    receipt = harness.receipts.take_one()
    assert receipt.usage is not None
    assert (receipt.usage.output_tokens, receipt.outcome) == (2, "completed")


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("status", [400, 429, 500])
def test_compressed_refusal_is_read(harness: Harness, coding: str, status: int) -> None:
    said = b'{"error":{"message":"no %b","code":"insufficient_quota"}}' % KEY
    headers = {"content-encoding": coding}
    body = CODINGS[coding](said)
    harness.answer_with(lambda received: received.answer(body, status=status, headers=headers))
    answered = harness.post(CHAT, BODY)
    assert answered.status == status
    assert answered.error["message"] == "no [removed]"
    assert "content-encoding" not in answered.headers
    assert harness.receipts.take_one().error_code == "insufficient_quota"


def test_compressed_file_passes_as_it_is(harness: Harness) -> None:
    body = gzip.compress(b"a file" * 1000)
    headers = {"content-type": "application/octet-stream", "content-encoding": "gzip"}
    harness.answer_with(lambda received: received.answer(body, headers=headers))
    answered = harness.ask("GET", "/v1/files/f1/content")
    assert (answered.body, answered.headers["content-encoding"]) == (body, "gzip")


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"no gzip"),
        ("gzip", gzip.compress(COMPLETION)[:-9]),
        ("gzip, gzip", gzip.compress(gzip.compress(COMPLETION))),
        ("br, gzip", gzip.compress(brotli.compress(COMPLETION))),
        ("compress", b"x"),
        ("aes128gcm", b"x"),
    ],
)
def test_answer_that_cannot_be_decoded_is_an_error(
    harness: Harness, coding: str, body: bytes
) -> None:
    harness.answer_with(
        lambda received: received.answer(body, headers={"content-encoding": coding})
    )
    assert b"provider_invalid_response" in harness.post(CHAT, BODY).body
    harness.answer_with(lambda received: send_stream(received, body, coding))
    assert b"provider_invalid_response" in harness.post(CHAT, STREAM).body
    assert [receipt.outcome for receipt in harness.receipts.take()] == ["unknown", "unknown"]


def make_bomb(coding: str) -> bytes:
    """Return zeros: about a gibibyte in members, or a quarter of one where there are none."""
    piece = bytes(16 * MEBIBYTE)
    if coding != "br":
        return CODINGS[coding](piece) * 60
    encoder = brotli.Compressor(quality=1)
    return b"".join(encoder.process(piece) for _ in range(16)) + encoder.finish()


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    made = {coding: make_bomb(coding) for coding in ("gzip", "br", "zstd")}
    return {**made, "gzip, gzip": gzip.compress(made["gzip"])}


def read_peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def test_bomb_costs_little_wherever_it_lies(harness: Harness, bombs: dict[str, bytes]) -> None:
    for asked_with in (BODY, STREAM):  # what a first call takes is not the bomb's
        harness.answer_with(lambda received: received.answer(bytes(2 * MEBIBYTE)))
        harness.post(CHAT, asked_with)
    before = read_peak_bytes(harness.gateway.process.pid)
    for coding, body in bombs.items():
        for status in (200, 302, 400, 429, 503):
            head = {"content-encoding": coding, "location": "http://127.0.0.1:1/"}
            given: dict[str, Any] = {"status": status, "headers": head}
            harness.answer_with(lambda received, b=body, g=given: received.answer(b, **g))
            answered = harness.post(CHAT, BODY)
            assert len(answered.body) < 1000
            assert answered.status in (status, 502)
        harness.answer_with(lambda received, b=body, c=coding: send_stream(received, b, c))
        answered = harness.post(CHAT, STREAM)
        assert len(answered.body) < 32 * MEBIBYTE
    cost = read_peak_bytes(harness.gateway.process.pid) - before
    assert cost <= BOMB_COST_BYTES_MAX, f"{cost / MEBIBYTE:.1f} MiB"
    harness.renew()


HOSTILE_HEADS = {
    "huge": b"x-ratelimit-a: " + b"a" * MEBIBYTE + b"\r\n",
    "many": b"x-ratelimit-a: b\r\n" * 1000,
    "nul": b"x-ratelimit-a: a\0b\r\n",
    "bare cr": b"x-ratelimit-a: a\rset-cookie: x\r\n",
    "bare lf": b"x-ratelimit-a: a\nset-cookie: x\r\n",
    "folded": b"x-ratelimit-a: a\r\n set-cookie: x\r\n",
    "control": b"x-ratelimit-a: a\x07\x1b[31mb\r\n",
    "blank in the name": b"x-ratelimit-a : b\r\n",
    "no name": b": b\r\n",
    "no colon": b"nothing\r\n",
    "cookie": b"set-cookie: a=b\r\nSet-Cookie2: c\r\n",
    "of the hop": b"keep-alive: 5\r\ntrailer: x\r\nupgrade: h2c\r\nproxy-authenticate: x\r\n",
    "policies": b"alt-svc: h3\r\nstrict-transport-security: max-age=1\r\nserver: x\r\nvia: y\r\n",
    "ours": b"x-headgate-cost: 0\r\nx-headgate-error-source: gateway\r\n",
    "two lengths": b"content-length: 5\r\n",
    "key": b"x-ratelimit-a: %b\r\nopenai-%b: x\r\n" % (KEY, KEY),
    "key as id": b"x-request-id: %b\r\n" % KEY,
    "key in an id": b"x-request-id: req-%b-1\r\n" % KEY,
}
ALLOWED = re.compile(
    r"content-type|content-length|transfer-encoding|date|connection|x-request-id|x-should-retry"
    r"|openai-[a-z0-9\[\]-]+|x-ratelimit-a|x-headgate-[a-z-]+"
)


@pytest.mark.parametrize("name", HOSTILE_HEADS)
def test_hostile_head_is_refused_or_cleaned(harness: Harness, name: str) -> None:
    lines = HOSTILE_HEADS[name]
    for status, body in ((200, COMPLETION), (400, b'{"error":{"message":"no"}}')):

        def answer(received: ReceivedRequest, status: int = status, body: bytes = body) -> None:
            head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n" % (status, KEY)
            received.send(head + lines + b"content-length: %d\r\n\r\n" % len(body) + body)
            received.close()

        harness.answer_with(answer)
        answered = harness.post(CHAT, BODY)
        assert answered.status in (status, 502)
        for field, value in answered.fields:
            assert ALLOWED.fullmatch(field), field
            assert value.isprintable()
            assert PROVIDER_KEY not in field + value
        assert len(str(answered.fields)) < 4000


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in JSON": lambda key: json.dumps(f"Bearer {key}"),
    "in a sentence": lambda key: f"Incorrect API key provided: {key}.",
    "twice": lambda key: key + key,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_key_is_removed_from_every_answer(harness: Harness, spelling: str, status: int) -> None:
    said = SPELLINGS[spelling](PROVIDER_KEY)
    body = json.dumps(
        {"id": said, "model": said, "error": {"message": said, "code": said}, "choices": []}
        if status >= 400
        else {"id": said, "model": said, "choices": [{"message": {"content": said}}], "usage": {}}
    ).encode()
    harness.answer_with(lambda received: received.answer(body, status=status))
    answered = harness.post(CHAT, BODY)
    assert answered.status == status
    assert b"[removed]" in answered.body
    assert KEY not in f"{answered.fields}".encode() + answered.body
    assert PROVIDER_KEY not in repr(harness.receipts.take_one())


def test_key_is_removed_from_a_stream_cut_at_any_byte(harness: Harness) -> None:
    body = EVENTS.replace(b'"Hi"', b'"%b"' % KEY, 1)
    first = body.index(KEY)
    wanted = body.replace(KEY, MASK)
    for cut in range(first - 1, first + len(KEY) + 2):
        harness.answer_with(lambda received, cut=cut: send_stream(received, body, cut=cut))
        assert harness.post(CHAT, STREAM).body == wanted


@pytest.mark.parametrize("end", [b"", b"the end", KEY[:-1], b"\n"])
def test_key_is_removed_from_a_file_whose_length_stays(harness: Harness, end: bytes) -> None:
    body = b"binary \x00\xff" + KEY + b" and " + KEY + end
    headers = {"content-type": "application/octet-stream"}

    def answer(received: ReceivedRequest) -> None:
        received.send_head(200, {**headers, "content-length": str(len(body))})
        for start in range(0, len(body), 7):
            received.send(body[start : start + 7])

    harness.answer_with(answer)
    answered = harness.ask("GET", "/v1/files/f1/content")
    assert answered.body == body.replace(KEY, MASK)
    assert answered.headers["content-length"] == str(len(body))
