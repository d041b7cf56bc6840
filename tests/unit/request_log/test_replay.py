"""A kept request is sent again: the same bytes from the simulator, and differences are shown."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headgate.main import data_plane
from headgate.main.replay import InProcessReplayer
from headgate.relay.ports import Grant
from headgate.request_log.model.entry import RequestEntry
from headgate.request_log.model.payload import StoredExchange, describe_missing
from headgate.request_log.model.replay import (
    ReplayAnswer,
    ReplayIncompleteError,
    ReplayKeyError,
    ReplayResult,
    compare,
)
from headgate.request_log.service.payloads import open_payload
from headgate.request_log.service.replay import MARK, ReplayRequest, replay
from headgate.request_log.store import entries
from tests.fakes.in_process import InProcessGateway, Peer, running_in_process
from tests.fakes.requests import JSON, make_exchange
from tests.unit.request_log.test_recorder import BODY, WHOLE, call, read_entries, read_only

pytestmark = pytest.mark.anyio
SETTINGS: dict[str, Any] = {"retries_max": 0, "request_log": "full"}
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", BODY),
    ("/v1/chat/completions", {**BODY, "stream": True}),
    ("/v1/responses", {"model": "gpt-5.4-mini", "input": "hi", "stream": True}),
    ("/v1/messages", {**BODY, "max_tokens": 50, "stream": True}),
    ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "hi"}),
    ("/v1/chat/completions", {**BODY, "model": "no-such-model"}),
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncGenerator[InProcessGateway]:
    async with running_in_process(tmp_path, **SETTINGS) as running:
        running.provider.play = lambda peer: peer.answer(WHOLE)
        yield running


@contextlib.asynccontextmanager
async def open_replayer(gateway: InProcessGateway) -> AsyncGenerator[InProcessReplayer]:
    """Open the replayer of a server, on the data plane of this one."""
    application, writer = gateway.application, gateway.writer
    settings = application.settings
    claims = data_plane.build_claims(settings, application, writer)
    replayer = InProcessReplayer(settings, application, claims)
    pipelines = data_plane.build_pipelines(
        settings,
        application,
        ledger=gateway.storage,
        claims=claims,
        client=gateway.client,
        traffic=gateway.traffic,
        observer=gateway.notebook,
    )
    replayer.connect(
        data_plane.build_handler(
            settings,
            application,
            pipelines=pipelines,
            traffic=gateway.traffic,
            on_refusal=lambda _error: None,
            grants=replayer.grants,
            request_log=gateway.recorder,
        )
    )
    try:
        yield replayer
    finally:
        await replayer.close()


def read_stored(gateway: InProcessGateway, entry: RequestEntry) -> StoredExchange:
    with gateway.application.database.reading() as connection:
        return open_payload(connection, gateway.application.sealer, entry.id)


def note_answer(stored: StoredExchange, result: ReplayResult) -> StoredExchange:
    """Return an exchange as it would be had the simulator answered it at first."""
    return msgspec.structs.replace(stored, status=result.replayed_status, response=result.replayed)


async def test_simulator_answers_the_same_bytes_twice_and_nothing_is_recorded(
    gateway: InProcessGateway,
) -> None:
    for path, body in REQUESTS:
        await call(gateway, body, path=path)
    kept = await read_entries(gateway)
    before = len(gateway.receipts)
    async with open_replayer(gateway) as replayer:
        for entry in kept:
            stored = read_stored(gateway, entry)
            first = await replay(replayer, entry, stored, target="simulator")
            assert first.replayed.size > 0
            second = await replay(replayer, entry, note_answer(stored, first), target="simulator")
            assert second.is_identical, (entry.path, second.differences)
            assert (second.differences, second.replayed.sha256) == ((), first.replayed.sha256)
    statuses = {entry.model: entry.status for entry in kept}
    assert statuses["gpt-5.4-mini"] == 200
    assert len(gateway.receipts) == before
    assert len(await read_entries(gateway)) == len(kept)


async def test_provider_is_asked_with_the_key_and_the_call_has_a_receipt(
    gateway: InProcessGateway,
) -> None:
    await call(gateway, BODY, 'x-headgate-metadata: {"team":"a"}', "idempotency-key: once")
    entry = await read_only(gateway)
    stored = read_stored(gateway, entry)
    async with open_replayer(gateway) as replayer:
        same = await replay(replayer, entry, stored, target="provider")
        gateway.provider.play = lambda peer: peer.answer(WHOLE.replace(b"chatcmpl-1", b"other"))
        other = await replay(replayer, entry, stored, target="provider")
    assert (same.is_identical, same.request_id != entry.id) == (True, True)
    [difference] = other.differences
    assert (difference.path, difference.recorded, difference.replayed) == (
        "id",
        "chatcmpl-1",
        "other",
    )
    assert gateway.provider.asked == 3
    receipt = gateway.receipts[-1]
    assert (receipt.key_id, receipt.cost_nano) == (entry.key_id, entry.cost_nano)
    assert json.loads(receipt.metadata) == {"team": "a", MARK: entry.id}
    newest, *_ = await read_entries(gateway)
    assert newest.id == other.request_id


async def test_limits_and_the_end_of_a_key_hold_for_replays(gateway: InProcessGateway) -> None:
    token = gateway.issue(networks=("127.0.0.0/8",), requests_per_minute=1)
    await call(gateway, BODY, key=token)
    entry = await read_only(gateway)
    stored = read_stored(gateway, entry)
    async with open_replayer(gateway) as replayer:
        limited = await replay(replayer, entry, stored, target="provider")
        assert (limited.replayed_status, gateway.provider.asked) == (429, 1)
        with gateway.application.database.transaction() as connection:
            connection.exec_driver_sql(
                f"UPDATE request_log SET key_id = 'key_gone' WHERE id = '{entry.id}'"
            )
            gone = entries.find(connection, entry.id)
        assert gone is not None
        with pytest.raises(ReplayKeyError):
            await replay(replayer, gone, stored, target="provider")
        assert (await replay(replayer, gone, stored, target="simulator")).replayed_status == 200


async def test_bodies_that_are_not_kept_whole_are_not_sent_again(
    gateway: InProcessGateway,
) -> None:
    picture = "data:image/png;base64," + "A" * 2_000
    part = {"type": "image_url", "image_url": {"url": picture}}
    await call(gateway, {**BODY, "messages": [{"role": "user", "content": [part]}]})
    entry = await read_only(gateway)
    async with open_replayer(gateway) as replayer:
        with pytest.raises(ReplayIncompleteError, match="attachments"):
            await replay(replayer, entry, read_stored(gateway, entry), target="simulator")


async def test_answer_that_breaks_off_is_compared_as_far_as_it_came(
    gateway: InProcessGateway,
) -> None:
    await call(gateway)
    entry = await read_only(gateway)
    gateway.provider.play = Peer.reset
    async with open_replayer(gateway) as replayer:
        result = await replay(replayer, entry, read_stored(gateway, entry), target="provider")
    assert (result.recorded_status, result.replayed_status) == (200, 502)
    assert result.differences[0].path == "status"
    assert {each.path for each in result.differences} > {"id", "error"}


@pytest.mark.parametrize(
    ("recorded", "replayed", "media_type", "paths"),
    [
        (b'{"a":[1,{"b":2}]}', b'{"a":[1,{"b":3}],"c":null}', JSON, ["a[1].b", "c"]),
        (b'{"a":1}', b'{ "a":1}', JSON, ["body"]),
        (b'{"a":[1,2]}', b'{"a":[1]}', JSON, ["a[1]"]),
        (b'{"a":true}', b'{"a":1}', JSON, ["body"]),
        (b"one\ntwo", b"one\n2", "text/plain", ["lines[1]"]),
        (b"\xff\x00", b"\xff\x01", "audio/mpeg", ["body"]),
        (
            b'event: a\ndata: {"x":1}\n\ndata: [DONE]\n\n',
            b'event: b\ndata: {"x":2}\n\ndata: [DONE]\n\n',
            "text/event-stream",
            ["events[0].event", "events[0].data.x"],
        ),
    ],
)
def test_differences_are_named_by_their_place(
    recorded: bytes, replayed: bytes, media_type: str, paths: list[str]
) -> None:
    stored = make_exchange(answered=recorded, media_type=media_type)
    answer = ReplayAnswer("req_2", 200, (("content-type", media_type),), replayed)
    result = compare("req_1", "simulator", stored, answer)
    assert [each.path for each in result.differences] == paths
    assert not result.is_identical
    same = ReplayAnswer("req_3", 200, (("content-type", media_type),), recorded)
    assert compare("req_1", "simulator", stored, same).is_identical


def test_answer_that_was_not_captured_is_never_called_the_same() -> None:
    lost = msgspec.structs.replace(make_exchange(), response=describe_missing(10, JSON))
    answer = ReplayAnswer("req_2", 200, (("content-type", JSON),), b"{}")
    result = compare("req_1", "simulator", lost, answer)
    assert (result.is_identical, result.differences[0].path) == (False, "body")


def test_fields_that_may_differ_are_ignored_at_any_depth() -> None:
    stored = make_exchange(answered=b'{"id":"a","x":[{"id":"b","y":1}],"vmx":{"t":1}}')
    body = b'{"id":"c","x":[{"id":"d","y":1}],"vmx":{"t":2,"u":3}}'
    answer = ReplayAnswer("req_2", 200, (("content-type", JSON),), body)
    result = compare("req_1", "simulator", stored, answer, ("id", "vmx"))
    assert (result.is_identical, result.matches, result.differences) == (False, True, ())
    result = compare("req_1", "simulator", stored, answer, ("id",))
    assert [each.path for each in result.differences] == ["vmx.t", "vmx.u"]
    spaced = ReplayAnswer("req_2", 200, (("content-type", JSON),), b'{"id": "a"}')
    same = make_exchange(answered=b'{"id":"a"}')
    assert not compare("req_1", "simulator", same, spaced, ("id",)).matches


async def test_grant_of_a_replay_goes_with_it_also_when_it_is_refused(
    gateway: InProcessGateway,
) -> None:
    async with open_replayer(gateway) as replayer:
        headers = (("authorization", "Bearer one"), ("authorization", "Basic two"))
        request = ReplayRequest(Grant("key_1", "org_1", "proj_1"), "GET", "//nowhere", headers, b"")
        for number in range(2):
            assert (await replayer.run("provider", request)).status >= 400
            with pytest.raises(KeyError):
                replayer.grants.find(b"hg_live_replay_%d" % number)
