"""Compressed request bodies: decoded within bounds, or refused by setting."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Generator
from typing import Any, cast

import brotli
import psutil
import pytest
from backports import zstd

from tests.fakes.harness import Harness, running_harness
from tests.fakes.http_connection import check_error

CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"' + b"Hi " * 500 + b'"}]}'
MEBIBYTE = 1 << 20


def pack_brotli(data: bytes) -> bytes:
    return cast("Any", brotli).compress(data, quality=1)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": pack_brotli,
    "zstd": zstd.compress,
}


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    data = tmp_path_factory.mktemp("compressed") / "data"
    with running_harness(data) as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    return module_harness


def test_compressed_body_is_refused_where_that_is_set(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = tmp_path_factory.mktemp("plain") / "data"
    with running_harness(data, decode_request_bodies="false") as harness:
        for coding, pack in PACKERS.items():
            answered = harness.post(CHAT, pack(BODY), {"content-encoding": coding})
            check_error(answered, 415, "unsupported_content_encoding", source="gateway")
            assert harness.upstream.received == []
        assert harness.post(CHAT, BODY, {"content-encoding": "identity"}).status == 200


@pytest.mark.parametrize("coding", PACKERS)
def test_decompressed_body_is_forwarded(harness: Harness, coding: str) -> None:
    answered = harness.post(CHAT, PACKERS[coding](BODY), {"content-encoding": coding.upper()})
    assert answered.status == 200
    received = harness.upstream.received[0]
    assert received.body == BODY
    assert "content-encoding" not in received.headers
    assert received.headers["content-length"] == str(len(BODY))


@pytest.mark.parametrize("coding", PACKERS)
def test_bomb_is_refused_and_little_memory_used(harness: Harness, coding: str) -> None:
    bomb = PACKERS[coding](bytes(96 * MEBIBYTE))
    harness.post(CHAT, PACKERS[coding](BODY), {"content-encoding": coding})
    server = psutil.Process(harness.gateway.process.pid)
    before = server.memory_info().rss
    harness.upstream.forget()
    answered = harness.post(CHAT, bomb, {"content-encoding": coding})
    check_error(answered, 413, "request_too_large", source="gateway")
    assert server.memory_info().rss - before <= 16 * MEBIBYTE
    assert harness.upstream.received == []


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize("body", [b"", b"garbage", BODY, b"\x1f\x8b", b"\x78\x9c"])
def test_corrupt_compressed_body_is_refused(harness: Harness, coding: str, body: bytes) -> None:
    answered = harness.post(CHAT, body, {"content-encoding": coding})
    check_error(answered, 400, "invalid_content_encoding", source="gateway")
    assert harness.upstream.received == []


@pytest.mark.parametrize("coding", ["gzip, gzip", "gzip,br", "compress", "zip", "gzip;q=1"])
def test_several_and_unknown_codings_are_refused(harness: Harness, coding: str) -> None:
    answered = harness.post(CHAT, gzip.compress(BODY), {"content-encoding": coding})
    check_error(answered, 415, "unsupported_content_encoding", source="gateway")


def test_decoded_body_is_read_as_strictly_as_any_other(harness: Harness) -> None:
    body = gzip.compress(b'{"model":"a","model":"b"}')
    answered = harness.post(CHAT, body, {"content-encoding": "gzip"})
    check_error(answered, 400, "invalid_json", source="gateway")
