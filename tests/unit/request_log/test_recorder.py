"""The request log follows requests through the data plane: one row each, whatever happens."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from headgate.llm.usage import Usage
from headgate.request_log.model.entry import RequestEntry, RequestFilter
from headgate.request_log.model.payload import PayloadNotKeptError, StoredExchange
from headgate.request_log.service.followed_call import FollowedCall
from headgate.request_log.service.payloads import open_payload
from headgate.request_log.store import entries
from tests.fakes.in_process import CHAT, InProcessGateway, Peer, running_in_process

pytestmark = pytest.mark.anyio
BODY = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "hi"}]}
WHOLE = (
    b'{"id":"chatcmpl-1","model":"gpt-5.4-mini-2026-03-17","choices":[],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}'
)
EVENT = b'data: {"id":"chatcmpl-2","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SETTINGS: dict[str, Any] = {"retries_max": 0, "request_log": "full"}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncGenerator[InProcessGateway]:
    async with running_in_process(tmp_path, **SETTINGS) as running:
        running.provider.play = lambda peer: peer.answer(WHOLE)
        yield running


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def play_stream(*events: bytes, ends: bool = True) -> Callable[[Peer], None]:
    def play(peer: Peer) -> None:
        peer.transport.write(SSE + b"".join(map(chunk, events)) + (b"0\r\n\r\n" if ends else b""))
        if not ends:
            peer.transport.close()

    return play


async def call(
    gateway: InProcessGateway, body: Any = BODY, *more: str, **given: Any
) -> tuple[int, bytes]:
    """Send one request, and return status and answer once the connection is closed."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    client = await gateway.connect()
    client.transport.writelines(
        [gateway.head(len(data), "connection: close", *more, **given), data]
    )
    async with asyncio.timeout(5):
        await client.closed.wait()
    return client.status, client.start


async def read_entries(gateway: InProcessGateway) -> list[RequestEntry]:
    """Return all rows, newest first, once what is on its way is written."""
    await gateway.recorder.drain()
    await gateway.writer.probe_commit()
    grant = gateway.application.key_index.find(gateway.key.encode())
    with gateway.application.database.reading() as connection:
        filters = RequestFilter(organization_id=grant.organization_id)
        return entries.list_page(connection, filters, after=None, limit=100).entries


async def read_only(gateway: InProcessGateway) -> RequestEntry:
    [entry] = await read_entries(gateway)
    return entry


def read_payload(gateway: InProcessGateway, entry: RequestEntry) -> StoredExchange:
    with gateway.application.database.reading() as connection:
        return open_payload(connection, gateway.application.sealer, entry.id)


async def test_call_leaves_a_row_that_agrees_with_its_receipt(gateway: InProcessGateway) -> None:
    status, _ = await call(
        gateway,
        BODY,
        "user-agent: tests/1",
        "x-headgate-correlation-id: order-7",
        'x-headgate-metadata: {"team":"a"}',
    )
    entry, [receipt] = await read_only(gateway), gateway.receipts
    assert (status, entry.status, entry.outcome) == (200, 200, "completed")
    assert (entry.id, entry.cost_nano, entry.attempts) == (receipt.request_id, receipt.cost_nano, 1)
    assert (entry.endpoint, entry.path, entry.model) == ("chat.completions", CHAT, "gpt-5.4-mini")
    assert (entry.user_agent, entry.correlation_id) == ("tests/1", "order-7")
    assert (entry.metadata, entry.client_address) == ('{"team":"a"}', "127.0.0.1")
    assert json.loads(entry.usage)["input_tokens"] == 9
    assert 0 <= entry.gate_microseconds <= entry.total_microseconds
    assert entry.response_id == "chatcmpl-1"


async def test_bodies_are_kept_as_the_client_sent_and_got_them(gateway: InProcessGateway) -> None:
    body = b'{ "model":"gpt-5.4-mini", "messages":[], "__vmx_passthrough":{} }'
    await call(gateway, body, "openai-beta: x=1")
    stored = read_payload(gateway, await read_only(gateway))
    assert (stored.request.body, stored.request.is_exact) == (body, True)
    assert stored.sent is not None
    assert stored.sent.body is not None
    assert b"vmx" not in stored.sent.body
    assert (stored.response.body, stored.status, stored.target) == (WHOLE, 200, CHAT)
    headers = dict(stored.headers)
    assert headers["openai-beta"] == "x=1"
    assert "authorization" not in headers


async def test_bodies_are_sealed(gateway: InProcessGateway) -> None:
    await call(gateway, {**BODY, "messages": [{"role": "user", "content": "PLANTED-WORDS"}]})
    entry = await read_only(gateway)
    with gateway.application.database.reading() as connection:
        [sealed] = connection.exec_driver_sql("SELECT sealed FROM request_payloads").scalars()
        assert b"PLANTED-WORDS" not in sealed
        connection.rollback()
    assert b"PLANTED-WORDS" in (read_payload(gateway, entry).request.body or b"")
    with gateway.application.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE request_payloads SET id = 'req_moved'")
    with pytest.raises(PayloadNotKeptError):
        read_payload(gateway, entry)
    with gateway.application.database.reading() as connection, pytest.raises(PayloadNotKeptError):
        open_payload(connection, gateway.application.sealer, "req_moved")


async def test_attachments_are_digests(gateway: InProcessGateway) -> None:
    picture = base64.b64encode(b"\x89PNG" * 500).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        {"type": "input_audio", "input_audio": {"data": picture, "format": "wav"}},
        {"type": "text", "text": "x" * 2_000},
    ]
    await call(gateway, {**BODY, "messages": [{"role": "user", "content": content}]})
    request = read_payload(gateway, await read_only(gateway)).request
    assert (request.attachments, request.is_exact, request.is_cut) == (2, False, False)
    parts = json.loads(request.body or b"")["messages"][0]["content"]
    shown = parts[0]["image_url"]["url"]["$attachment"]
    assert (shown["media_type"], shown["bytes"], len(shown["sha256"])) == ("image/png", 2_000, 64)
    assert parts[1]["input_audio"]["data"]["$attachment"]["media_type"] == "wav"
    assert parts[2]["text"] == "x" * 2_000


async def test_stream_is_kept_with_its_last_event(gateway: InProcessGateway) -> None:
    gateway.provider.play = play_stream(EVENT, DONE)
    status, _ = await call(gateway, {**BODY, "stream": True})
    entry = await read_only(gateway)
    assert (status, entry.outcome, entry.streamed) == (200, "completed", 1)
    response = read_payload(gateway, entry).response
    assert response.media_type == "text/event-stream"
    assert response.body == EVENT + DONE


async def test_errors_of_the_provider_are_rows_with_their_reason(
    gateway: InProcessGateway,
) -> None:
    body = b'{"error":{"message":"No such model.","type":"x","code":"model_not_found"}}'
    gateway.provider.play = lambda peer: peer.answer(body, status=404)
    await call(gateway)
    gateway.provider.play = Peer.reset
    await call(gateway)
    gateway.provider.play = play_stream(EVENT, ends=False)
    await call(gateway, {**BODY, "stream": True})
    broken, reset, missing = await read_entries(gateway)
    assert (missing.status, missing.outcome, missing.error_code) == (
        404,
        "upstream_error",
        "model_not_found",
    )
    assert missing.failure_reason == "No such model."
    assert (reset.status, reset.attempts) == (502, 1)
    assert reset.failure_reason
    assert (broken.status, broken.streamed) == (200, 1)
    assert broken.outcome not in ("completed", "refused")


async def test_refusals_of_a_known_key_are_rows(gateway: InProcessGateway) -> None:
    narrow = gateway.issue(models=("gpt-5.4-nano",))
    await call(gateway, b"{", "x-headgate-correlation-id: broken")
    await call(gateway, BODY, path="/v1/v1/nowhere")
    await call(gateway, BODY, key=narrow)
    await call(gateway, BODY, key="hg_live_unknown")
    denied, unknown_path, malformed = await read_entries(gateway)
    assert (malformed.status, malformed.error_code) == (400, "invalid_json")
    assert (malformed.endpoint, malformed.correlation_id) == ("chat.completions", "broken")
    assert (unknown_path.status, unknown_path.path, unknown_path.endpoint) == (
        404,
        "/v1/v1/nowhere",
        "",
    )
    assert (denied.status, denied.outcome, denied.attempts) == (403, "refused", 0)
    assert denied.model == "gpt-5.4-mini"
    assert all(each.failure_reason for each in (denied, unknown_path, malformed))
    assert not any(each.payload for each in (unknown_path, malformed))
    refused = read_payload(gateway, denied)
    assert (refused.status, refused.response.media_type) == (403, "application/json")
    assert json.loads(refused.response.body or b"")["error"]["message"] == denied.failure_reason
    assert denied.response_bytes == refused.response.size


async def test_client_that_leaves_is_a_row(gateway: InProcessGateway) -> None:
    asked = asyncio.Event()
    gateway.provider.play = lambda _peer: asked.set()
    client = await gateway.connect()
    data = json.dumps(BODY).encode()
    client.transport.writelines([gateway.head(len(data), key=gateway.issue()), data])
    async with asyncio.timeout(5):
        await asked.wait()
        client.transport.abort()
        await asyncio.gather(*gateway.state.tasks)
    entry = await read_only(gateway)
    assert (entry.outcome, entry.id) == (
        gateway.receipts[0].outcome,
        gateway.receipts[0].request_id,
    )


async def test_call_that_is_repeated_with_its_key_is_a_row_of_its_own(
    gateway: InProcessGateway,
) -> None:
    for _ in range(2):
        await call(gateway, BODY, "idempotency-key: once")
    repeated, first = await read_entries(gateway)
    assert (first.outcome, repeated.outcome, repeated.status) == ("completed", "replayed", 200)
    assert (repeated.cost_nano, len(gateway.receipts)) == (0, 1)
    assert read_payload(gateway, repeated).response.body == WHOLE


async def test_messages_are_kept_as_their_client_knows_them(gateway: InProcessGateway) -> None:
    gateway.provider.play = lambda peer: peer.answer(b'{"error":{"message":"no"}}', status=400)
    asked = {**BODY, "max_tokens": 5}
    await call(gateway, asked, path="/v1/messages")
    entry = await read_only(gateway)
    stored = read_payload(gateway, entry)
    assert (entry.endpoint, entry.status) == ("messages", 400)
    assert json.loads(stored.request.body or b"") == asked
    assert json.loads(stored.response.body or b"")["type"] == "error"
    assert stored.sent_target.endswith("/responses")


async def test_large_bodies_are_cut_and_rows_stay(tmp_path: Path) -> None:
    limits = {"request_log_payload_bytes_max": 1_000, "request_log_pending_bytes_max": 20_000}
    async with running_in_process(tmp_path, **SETTINGS, **limits) as gateway:
        gateway.provider.play = lambda peer: peer.answer(b'{"text":"%b"}' % (b"y" * 25_000))
        await call(gateway, {**BODY, "user": "x" * 3_000})
        await call(gateway, {**BODY, "user": "x" * 30_000})
        dropped, cut = await read_entries(gateway)
        stored = read_payload(gateway, cut)
        assert (stored.request.is_cut, len(stored.request.body or b"")) == (True, 1_000)
        assert (stored.response.size, stored.response.body) == (25_011, None)
        assert (dropped.payload, dropped.status, gateway.recorder.payloads_dropped) == (0, 200, 1)


async def test_nothing_is_kept_unless_a_project_asks(tmp_path: Path) -> None:
    async with running_in_process(tmp_path) as gateway:
        gateway.provider.play = lambda peer: peer.answer(WHOLE)
        await call(gateway)
        await call(gateway, b"{")
        assert await read_entries(gateway) == []


async def test_bodies_are_freed_without_the_collector(gateway: InProcessGateway) -> None:
    gc.collect()
    gc.disable()
    try:
        await call(gateway)
        await call(gateway, {**BODY, "stream": True}, "idempotency-key: once")
        await call(gateway, BODY, key=gateway.issue(models=("gpt-5.4-nano",)))
        gateway.provider.play = Peer.reset
        await call(gateway)
        assert len(await read_entries(gateway)) == 4
        left = [each for each in gc.get_objects() if type(each) is FollowedCall]
    finally:
        gc.enable()
    assert left == []


async def test_row_of_a_response_in_the_background_gets_its_end(gateway: InProcessGateway) -> None:
    body = b'{"id":"resp_1","object":"response","status":"queued","model":"gpt-5.4-mini"}'
    gateway.provider.play = lambda peer: peer.answer(body)
    asked = {"model": "gpt-5.4-mini", "input": "hi", "background": True}
    await call(gateway, asked, path="/v1/responses")
    entry = await read_only(gateway)
    with gateway.application.database.transaction() as connection:
        values = {"outcome": "pending", "cost_nano": 0}
        connection.execute(sa.update(entries.ENTRIES).values(**values))
    ended = msgspec.structs.replace(
        gateway.receipts[0],
        outcome="completed",
        cost_nano=7,
        usage=Usage(input_tokens=3),
        model_served="gpt-5.4-mini-2026-03-17",
    )
    for receipt in (ended, msgspec.structs.replace(ended, cost_nano=8)):
        gateway.recorder.end(receipt)
        await gateway.writer.probe_commit()
    after = await read_only(gateway)
    assert (after.id, after.outcome, after.cost_nano) == (entry.id, "completed", 7)
    assert json.loads(after.usage)["input_tokens"] == 3
