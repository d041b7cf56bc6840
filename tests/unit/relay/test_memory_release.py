"""The bodies of a call are freed by reference counting when it ends, without the collector."""

from __future__ import annotations

import asyncio
import gc
import gzip
import random
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.in_process import CHAT, Client, InProcessGateway, Peer, running_in_process

pytestmark = pytest.mark.anyio

MEBIBYTE = 1 << 20
REPEATS = 2
SLACK_BYTES = MEBIBYTE // 4
"""What `REPEATS` calls may leave behind in caches, logs and receipts: much less than one body."""
BODY = b'{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"%b"}]}' % (b"x" * MEBIBYTE)
STREAMED = BODY[:-1] + b',"stream":true}'
EVENT = b'data: {"id":"c","choices":[{"delta":{"content":"%b"}}]}\n\n'
SSE = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = b'{"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
SETTINGS: dict[str, Any] = {
    "retries_max": 0,
    "first_byte_seconds": 0.1,
    "idle_seconds": 0.1,
    "total_seconds": 5,
    "response_body_bytes_max": 2 * MEBIBYTE,
    "json_body_bytes_max": 5 * MEBIBYTE // 2,
    "decode_request_bodies": "true",
}
Failing = Callable[[InProcessGateway, Client], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncGenerator[InProcessGateway]:
    async with running_in_process(tmp_path, **SETTINGS) as running:
        yield running


async def test_failing_test_leaves_no_call_open(tmp_path: Path) -> None:
    left: list[InProcessGateway] = []

    async def fail() -> None:
        async with running_in_process(tmp_path) as gateway:
            left.append(gateway)
            gateway.provider.play = lambda _peer: None
            client = await gateway.connect()
            client.transport.writelines([gateway.head(len(BODY)), BODY])
            await until(lambda: gateway.provider.asked == 1)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    [gateway] = left
    assert gateway.callers[0].closed.is_set()
    assert not gateway.provider.peers
    assert gateway.is_idle


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    for _ in range(5000):
        if is_so():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came to that")


def waiting_bytes(connection: Any) -> int:
    """Return the received bytes of the body that arrives on a connection of the edge."""
    return connection.cycle.waiting_bytes if connection.cycle is not None else 0


async def ask(
    client: Client, head: bytes, body: bytes = BODY, *, until_closed: bool = False
) -> int:
    """Send a request, and wait for its answer."""
    client.transport.writelines([head, body])
    await (client.closed if until_closed else client.heard).wait()
    return client.status


async def be_unknown(gateway: InProcessGateway, client: Client) -> None:
    head = gateway.head(len(BODY), "x-headgate-credential: nobody")
    assert await ask(client, head) in (400, 404, 403)


async def be_out_of_scope(gateway: InProcessGateway, client: Client) -> None:
    key = gateway.issue(models=("other",))
    assert await ask(client, gateway.head(len(BODY), key=key)) == 403


async def be_no_json(gateway: InProcessGateway, client: Client) -> None:
    body = BODY[:-2]
    assert await ask(client, gateway.head(len(body)), body) == 400


async def be_badly_coded(gateway: InProcessGateway, client: Client) -> None:
    body = gzip.compress(BODY[:500_000] + random.Random(1).randbytes(500_000))[:-1]
    head = gateway.head(len(body), "content-encoding: gzip")
    assert await ask(client, head, body) == 400, client.start


def played(
    play: Callable[[Peer], None], status: int, body: bytes = BODY, *more: str, path: str = CHAT
) -> Failing:
    async def fail(gateway: InProcessGateway, client: Client) -> None:
        gateway.provider.play = play
        head = gateway.head(len(body), *more, path=path)
        assert await ask(client, head, body) == status

    return fail


def reset_before_an_answer(peer: Peer) -> None:
    peer.reset()


def reset_within_a_body(peer: Peer) -> None:
    peer.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    peer.transport.write(b"content-length: %d\r\n\r\n" % (2 * MEBIBYTE) + b"x" * MEBIBYTE)
    asyncio.get_running_loop().call_later(0.05, peer.reset)


def answer_no_json(peer: Peer) -> None:
    peer.answer(b'{"a":"' + b"x" * MEBIBYTE)


def redirect(peer: Peer) -> None:
    peer.answer(b"x" * MEBIBYTE, "location: http://a/", status=302)


def answer_badly_coded(peer: Peer) -> None:
    peer.answer(b"x" * MEBIBYTE, "content-encoding: gzip")


def answer_too_much(peer: Peer) -> None:
    peer.answer(b"x" * 3 * MEBIBYTE)


def answer_without_end(peer: Peer) -> None:
    peer.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    peer.transport.write(b"transfer-encoding: chunked\r\n\r\n")
    pour(peer)


def pour(peer: Peer) -> None:
    if not peer.transport.is_closing():
        peer.transport.write(chunk(b"x" * 65536))
        asyncio.get_running_loop().call_soon(pour, peer)


def say_nothing(peer: Peer) -> None:
    pass


def stall_within_a_body(peer: Peer) -> None:
    peer.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    peer.transport.write(b"content-length: %d\r\n\r\n" % (2 * MEBIBYTE) + b"x" * MEBIBYTE)


def refuse(peer: Peer) -> None:
    peer.answer(b'{"error":{"message":"%b"}}' % (b"x" * 500_000), status=500)


def refuse_rates(peer: Peer) -> None:
    peer.answer(b'{"error":{"message":"%b"}}' % (b"x" * 500_000), status=429)


def speak_no_http(peer: Peer) -> None:
    peer.transport.write(b"nonsense" * 1000)


def begin_stream(peer: Peer, *events: bytes) -> None:
    peer.transport.write(SSE.encode() + b"".join(chunk(event) for event in events))


def reset_stream(peer: Peer) -> None:
    begin_stream(peer, EVENT % b"hello", EVENT[:-2] % (b"x" * 500_000))
    asyncio.get_running_loop().call_later(0.05, peer.reset)


def cut_stream(peer: Peer) -> None:
    begin_stream(peer, EVENT % b"hello", b"data: " + b"x" * 500_000)
    peer.transport.write(b"0\r\n\r\n")


def stall_stream(peer: Peer) -> None:
    begin_stream(peer, EVENT % b"hello", b"data: " + b"x" * 500_000)


def send_large_event(peer: Peer) -> None:
    begin_stream(peer, EVENT % b"hello", *[b"data: " + b"x" * MEBIBYTE] * 3)


def leaving(play: Callable[[Peer], None], body: bytes) -> Failing:
    """Disconnect the client when it has received something, or its provider was asked."""

    async def fail(gateway: InProcessGateway, client: Client) -> None:
        gateway.provider.play, asked = play, gateway.provider.asked
        client.transport.writelines([gateway.head(len(body)), body])
        await until(lambda: gateway.provider.asked > asked)
        if body is STREAMED:
            await client.heard.wait()
        client.transport.abort()

    return fail


async def leave_within_the_body(gateway: InProcessGateway, client: Client) -> None:
    client.transport.writelines([gateway.head(2 * len(BODY)), BODY])
    await until(lambda: any(waiting_bytes(each) >= len(BODY) for each in gateway.state.connections))
    client.transport.abort()


async def be_unrecorded(gateway: InProcessGateway, client: Client) -> None:
    gateway.provider.play = lambda peer: peer.answer(WHOLE[:-1] + b',"x":"' + BODY[80:-80] + b'"}')
    gateway.storage.broken = True
    try:
        assert await ask(client, gateway.head(len(BODY))) == 503
    finally:
        gateway.storage.broken = False


async def be_too_large(gateway: InProcessGateway, client: Client) -> None:
    head = gateway.head(0).replace(b"content-length: 0", b"transfer-encoding: chunked")
    client.transport.writelines([head, *[chunk(BODY)] * 3])
    await client.heard.wait()
    assert client.status == 413


async def break_an_upload(gateway: InProcessGateway, client: Client) -> None:
    gateway.provider.play = reset_before_an_answer
    head = gateway.head(len(BODY), path="/v1/uploads/u/unknown")
    assert await ask(client, head.replace(b"application/json", b"application/x")) == 502


async def leave_an_upload(gateway: InProcessGateway, client: Client) -> None:
    gateway.provider.play, asked = say_nothing, gateway.provider.heads
    head = gateway.head(2 * len(BODY), path="/v1/uploads/u/unknown")
    client.transport.writelines([head.replace(b"application/json", b"application/x"), BODY])
    await until(lambda: gateway.provider.heads > asked)
    client.transport.abort()


async def be_answered(gateway: InProcessGateway, client: Client) -> None:
    gateway.provider.play = lambda peer: peer.answer(WHOLE)
    assert await ask(client, gateway.head(len(BODY))) == 200


MESSAGE = b'{"model":"gpt-5.4-mini","max_tokens":50,%b"messages":[{"role":"user","content":"%b"}]}'
ROUTED = (
    BODY[:-1]
    + b',"vmx":{"resourceConfigOverrides":{"model":{"model":"gpt-5.4-mini"},"useFallback":true,'
    b'"fallbackModels":[{"model":"gpt-4.1"}]}}}'
)
ENVELOPED = BODY[:-1] + b',"vmx":{"correlationId":"c"}}'
MALFORMED = MESSAGE % (b'"tools":[{"name":1}],', b"x" * MEBIBYTE)
LOSSY = MESSAGE % (b'"top_k":5,', b"x" * MEBIBYTE)
WHOLE_MESSAGE = MESSAGE % (b"", b"x" * MEBIBYTE)
STREAMED_MESSAGE = MESSAGE % (b'"stream":true,', b"x" * MEBIBYTE)
MESSAGES = "/v1/messages"


FAILURES: dict[str, Failing] = {
    "answered": be_answered,
    "unknown credential": be_unknown,
    "model out of scope": be_out_of_scope,
    "request that is no JSON": be_no_json,
    "request with a bad coding": be_badly_coded,
    "reset before an answer": played(reset_before_an_answer, 502),
    "reset within a body": played(reset_within_a_body, 502),
    "answer that is no JSON": played(answer_no_json, 502),
    "redirect": played(redirect, 502),
    "answer with a bad coding": played(answer_badly_coded, 502),
    "oversized answer": played(answer_too_much, 502),
    "endless answer": played(answer_without_end, 502),
    "no first byte": played(say_nothing, 504),
    "stalled body": played(stall_within_a_body, 504),
    "refused by the provider": played(refuse, 500),
    "limited by the provider": played(refuse_rates, 429),
    "no HTTP": played(speak_no_http, 502),
    "stream that is reset": played(reset_stream, 200, STREAMED),
    "stream that is cut": played(cut_stream, 200, STREAMED),
    "stream that stalls": played(stall_stream, 200, STREAMED),
    "stream with an event too large": played(send_large_event, 200, STREAMED),
    "caller who leaves before the answer": leaving(say_nothing, BODY),
    "caller who leaves a stream": leaving(stall_stream, STREAMED),
    "caller who leaves within the body": leave_within_the_body,
    "database that refuses": be_unrecorded,
    "body that is too large": be_too_large,
    "upload that is reset": break_an_upload,
    "caller who leaves an upload": leave_an_upload,
    "message that is malformed": played(say_nothing, 400, MALFORMED, path=MESSAGES),
    "message that would lose something": played(
        say_nothing, 400, LOSSY, "x-headgate-conversion: strict", path=MESSAGES
    ),
    "message whose answer is no JSON": played(answer_no_json, 502, WHOLE_MESSAGE, path=MESSAGES),
    "message that is refused": played(refuse, 500, WHOLE_MESSAGE, path=MESSAGES),
    "message whose stream is cut": played(cut_stream, 200, STREAMED_MESSAGE, path=MESSAGES),
    "message whose stream is reset": played(reset_stream, 200, STREAMED_MESSAGE, path=MESSAGES),
    "envelope with a whole answer": played(lambda peer: peer.answer(WHOLE), 200, ENVELOPED),
    "envelope whose stream is cut": played(cut_stream, 200, ENVELOPED[:-1] + b',"stream":true}'),
    "envelope with a refusal": played(refuse, 500, ENVELOPED),
    "targets that all refuse": played(refuse, 500, ROUTED),
    "targets that all break": played(reset_before_an_answer, 502, ROUTED),
    "targets that all are silent": played(say_nothing, 504, ROUTED),
    "caller who leaves a target": leaving(say_nothing, ROUTED),
}


async def fail_once(gateway: InProcessGateway, fail: Failing) -> None:
    """Run one failing call on a connection of its own, until everything is over."""
    client = await gateway.connect()
    try:
        await fail(gateway, client)
    finally:
        client.transport.abort()
    await until(lambda: gateway.is_idle)
    for peer in list(gateway.provider.peers):
        peer.transport.abort()
    await until(lambda: not gateway.provider.peers and not gateway.connections_open)
    await until(lambda: not gateway.traffic.bodies.taken)


async def test_call_that_fails_keeps_no_body(gateway: InProcessGateway) -> None:
    await fail_once(gateway, be_answered)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    kept: dict[str, int] = {}
    try:
        for name, fail in FAILURES.items():
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(REPEATS):
                async with asyncio.timeout(10):
                    await fail_once(gateway, fail)
            after, _ = tracemalloc.get_traced_memory()
            if after - before > SLACK_BYTES:
                kept[name] = after - before
    finally:
        tracemalloc.stop()
        gc.enable()
    assert not kept


async def test_kept_connection_holds_no_body_of_a_call_that_failed(
    gateway: InProcessGateway,
) -> None:
    client = await gateway.connect()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        await be_unknown(gateway, client)
        before, _ = tracemalloc.get_traced_memory()
        others = [await gateway.connect() for _ in range(REPEATS)]
        for other in others:
            await be_unknown(gateway, other)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < SLACK_BYTES
    assert not any(other.closed.is_set() for other in others)
    for each in (client, *others):
        each.transport.abort()
