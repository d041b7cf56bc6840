"""Calls that are repeated with the same `Idempotency-Key`: one upstream call and one bill."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from headgate.billing.service import ledger as billing
from headgate.kit.db.engine import Database
from headgate.kit.money import NANO_PER_DOLLAR
from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.harness import Harness, running_managed_harness
from tests.fakes.http_connection import HttpResponse, ask, check_error
from tests.fakes.server_database import ServerDatabase
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream
from tests.fakes.waiting import wait_until

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {
    "model": "gpt-5.4-mini",
    "max_completion_tokens": 200,
    "messages": [{"role": "user", "content": "Hi"}],
}
STREAM = {**ASK, "stream": True}
USAGE = b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}'
COMPLETION = b'{"id":"c1","model":"gpt-5.4-mini","choices":[],%b}' % USAGE
COST_NANO = 1000 * 750 + 100 * 4500
EVENTS = [
    b'data: {"model":"gpt-5.4-mini","choices":[{"index":0,"delta":{"content":"hel"}}]}\n\n',
    b'data: {"model":"gpt-5.4-mini","choices":[{"index":0,"delta":{"content":"lo"}}]}\n\n',
    b'data: {"model":"gpt-5.4-mini","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"model":"gpt-5.4-mini","choices":[],%b}\n\n' % USAGE,
    b"data: [DONE]\n\n",
]


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    folder = tmp_path_factory.mktemp("idempotency") / "data"
    with running_managed_harness(folder, idempotency_answer_bytes_max=20_000) as running:
        database = Database(running.gateway.place)
        with database.transaction() as connection:
            organization_id = running.gateway.keys["organization_id"]
            billing.fund(
                connection, organization_id, amount_nano=NANO_PER_DOLLAR, reference="a", now=1.0
            )
        database.close()
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    module_harness.answer_with(lambda received: received.answer(COMPLETION))
    return module_harness


def stream(received: ReceivedRequest) -> None:
    received.begin_stream()
    for event in EVENTS:
        received.send_chunk(event)
    received.send_end()


def post(
    harness: Harness, key: str, body: Any = ASK, headers: dict[str, str] | None = None
) -> HttpResponse:
    return harness.post(CHAT, body, {"idempotency-key": key, **(headers or {})})


def make_key() -> str:
    return str(uuid.uuid4())


def read_balance(harness: Harness) -> int:
    database = Database(harness.gateway.place)
    try:
        with database.reading() as connection:
            assert billing.find_inconsistencies(connection) == []
            return billing.read_available(connection, harness.gateway.keys["organization_id"])
    finally:
        database.close()


def test_repeated_call_gets_the_same_bytes_and_is_billed_once(harness: Harness) -> None:
    key, before = make_key(), read_balance(harness)
    first, second = post(harness, key), post(harness, key)
    assert first.status == second.status == 200
    assert first.body == second.body == COMPLETION
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    request_id = first.headers["x-headgate-request-id"]
    assert second.headers["x-headgate-original-request-id"] == request_id
    kept = {k: v for k, v in first.headers.items() if k != "date"}
    assert kept.items() <= second.headers.items()
    assert len(harness.upstream.received) == 1
    assert [each.request_id for each in harness.receipts.take()] == [request_id]
    assert before - read_balance(harness) == COST_NANO


def test_repeated_stream_is_the_same_valid_stream(harness: Harness) -> None:
    harness.answer_with(stream)
    key, before = make_key(), read_balance(harness)
    client = harness.gateway.sdk()
    texts: list[str] = []
    for _ in range(2):
        create: Any = client.chat.completions.create
        with create(**STREAM, extra_headers={"idempotency-key": key}) as chunks:
            parts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
        texts.append("".join(parts))
    assert texts == ["hello", "hello"]
    third, fourth = post(harness, key, STREAM), post(harness, make_key(), STREAM)
    assert third.status == 422, "the SDK writes its JSON in another way"
    assert fourth.body == b"".join(EVENTS[:3]) + EVENTS[4]
    assert len(harness.upstream.received) == 2
    assert before - read_balance(harness) == 2 * COST_NANO


def test_stream_is_replayed_byte_for_byte(harness: Harness) -> None:
    harness.answer_with(stream)
    key = make_key()
    first, second = post(harness, key, STREAM), post(harness, key, STREAM)
    assert first.body == second.body == b"".join(EVENTS[:3]) + EVENTS[4]
    assert second.headers["content-type"] == "text/event-stream"
    assert second.headers["idempotent-replayed"] == "true"
    assert len(harness.upstream.received) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"body": {**ASK, "max_completion_tokens": 201}},
        {"headers": {"x-headgate-credential": "openai"}},
        {"headers": {"openai-beta": "other=v1"}},
    ],
)
def test_other_request_under_the_same_key_is_refused(
    harness: Harness, changed: dict[str, Any]
) -> None:
    key = make_key()
    assert post(harness, key).status == 200
    refused = post(harness, key, **changed)
    check_error(refused, 422, "idempotency_key_reused", source="gateway")
    assert refused.headers["x-should-retry"] == "false"
    assert len(harness.upstream.received) == 1


def test_message_is_repeated_by_what_its_client_sent(harness: Harness) -> None:
    """Also what the provider never gets tells one request from another."""
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    text: list[Any] = [{"type": "output_text", "text": "one two", "annotations": []}]
    answer: dict[str, Any] = {
        "id": "resp_1",
        "model": "gpt-5.4-mini",
        "status": "completed",
        "output": [{"type": "message", "id": "msg_1", "content": text}],
        "usage": usage,
    }
    harness.answer_with(lambda received: received.answer(json.dumps(answer).encode()))
    body = {"model": "gpt-5.4-mini", "max_tokens": 200, "messages": ASK["messages"]}
    key = {"idempotency-key": "message-1"}
    first = harness.post("/v1/messages", body, key)
    again = harness.post("/v1/messages", body, key)
    assert (first.status, again.body) == (200, first.body)
    assert again.headers["idempotent-replayed"] == "true"
    other = harness.post("/v1/messages", {**body, "stop_sequences": ["two"]}, key)
    assert (other.status, other.json["error"]["type"]) == (422, "invalid_request_error")
    assert len(harness.upstream.received) == 1


def test_call_in_flight_is_a_conflict_that_the_sdk_waits_out(harness: Harness) -> None:
    release = threading.Event()

    def answer_late(received: ReceivedRequest) -> None:
        release.wait(10)
        received.answer(COMPLETION)

    harness.answer_with(answer_late)
    key = make_key()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post, harness, key)
        wait_until(lambda: len(harness.upstream.received) == 1, 5)
        refused = post(harness, key)
        check_error(refused, 409, "idempotency_key_in_use", source="gateway")
        assert refused.headers["retry-after"] == "1"
        other = post(harness, key, {**ASK, "n": 2})
        check_error(other, 422, "idempotency_key_reused", source="gateway")
        release.set()
        assert first.result().status == 200
    assert post(harness, key).headers["idempotent-replayed"] == "true"


def test_retry_storm_of_the_sdk_is_one_upstream_call_and_one_debit(harness: Harness) -> None:
    """The first tries time out at the client; each of them is repeated by the SDK."""
    attempts = 12

    def answer_late(received: ReceivedRequest) -> None:
        time.sleep(1.5)
        received.answer(COMPLETION)

    harness.answer_with(answer_late)
    key, before = make_key(), read_balance(harness)

    def ask(_: int) -> Any:
        with openai.OpenAI(
            api_key=harness.gateway.key,
            base_url=harness.gateway.base_url,
            max_retries=8,
            timeout=0.5,
        ) as client:
            create: Any = client.chat.completions.create
            return create(**ASK, extra_headers={"Idempotency-Key": key}).to_dict()

    with ThreadPoolExecutor(attempts) as pool:
        answers = list(pool.map(ask, range(attempts)))
    assert answers == [answers[0]] * attempts
    assert len(harness.upstream.received) == 1
    assert len(harness.receipts.take()) == 1
    assert before - read_balance(harness) == COST_NANO


@pytest.mark.parametrize(("status", "calls"), [(400, 1), (404, 1), (422, 1), (501, 2), (403, 2)])
def test_faults_of_the_request_are_answers_and_others_are_not(
    harness: Harness, status: int, calls: int
) -> None:
    body = b'{"error":{"message":"No.","type":"invalid_request_error","code":"x","param":null}}'
    harness.answer_with(lambda received: received.answer(body, status=status))
    key = make_key()
    first, second = post(harness, key), post(harness, key)
    assert first.status == second.status
    assert first.body == second.body
    assert len(harness.upstream.received) == calls
    assert ("idempotent-replayed" in second.headers) is (calls == 1)


def test_call_that_the_provider_refused_runs_again(harness: Harness) -> None:
    answers = [(501, b"{}"), (200, COMPLETION)]

    def answer(received: ReceivedRequest) -> None:
        status, body = answers.pop(0)
        received.answer(body, status=status)

    harness.answer_with(answer)
    key = make_key()
    assert [post(harness, key).status for _ in range(3)] == [501, 200, 200]
    assert len(harness.upstream.received) == 2


def test_refusal_before_dispatch_frees_the_key(harness: Harness) -> None:
    key = make_key()
    refused = post(harness, key, {**ASK, "model": "no-such-model"})
    assert refused.status in (400, 404)
    assert post(harness, key).status == 200


def test_broken_answer_runs_again_once_and_no_third_time(harness: Harness) -> None:
    def break_off(received: ReceivedRequest) -> None:
        received.begin_stream()
        received.send_chunk(EVENTS[0])
        received.reset()

    harness.answer_with(break_off)
    key = make_key()
    for _ in range(2):
        assert b"error" in post(harness, key, STREAM).body
    refused = post(harness, key, STREAM)
    check_error(refused, 409, "idempotency_outcome_unknown", source="gateway")
    assert refused.headers["x-should-retry"] == "false"
    assert len(harness.upstream.received) == 2


def test_answer_that_is_too_large_is_not_run_again(harness: Harness) -> None:
    large = COMPLETION[:-1] + b',"x":"%b"}' % (b"y" * 30_000)
    harness.answer_with(lambda received: received.answer(large))
    key = make_key()
    first = post(harness, key)
    assert first.body == large
    refused = post(harness, key)
    check_error(refused, 409, "idempotent_answer_missing", source="gateway")
    assert first.headers["x-headgate-request-id"] in refused.body.decode()
    assert len(harness.upstream.received) == 1


def test_another_key_and_another_endpoint_may_use_the_same(harness: Harness) -> None:
    key = make_key()
    made = harness.gateway.run("keys", "create", "--name", "other")
    found = re.search(r"hg_live_\S+", made.stdout)
    assert found, made.stderr
    token = found[0]
    wait_until(
        lambda: (
            post(harness, make_key(), headers={"authorization": f"Bearer {token}"}).status == 200
        ),
        5,
    )
    harness.upstream.forget()
    assert post(harness, key).status == 200
    answered = post(harness, key, headers={"authorization": f"Bearer {token}"})
    assert answered.status == 200
    assert "idempotent-replayed" not in answered.headers
    harness.answer_with(
        lambda received: received.answer(
            b'{"data":[],"model":"text-embedding-3-small","usage":{"prompt_tokens":1}}'
        )
    )
    embedded = harness.post(
        "/v1/embeddings",
        {"model": "text-embedding-3-small", "input": "x"},
        {"idempotency-key": key},
    )
    assert embedded.status == 200
    assert len(harness.upstream.received) == 3


@pytest.mark.parametrize("key", ["x" * 256, "caf\u00e9", ""])
def test_malformed_key_is_refused(harness: Harness, key: str) -> None:
    refused = harness.ask(
        "POST",
        CHAT,
        {"content-type": "application/json", "idempotency-key": key},
        json.dumps(ASK).encode(),
    )
    check_error(refused, 400, "invalid_idempotency_key", source="gateway")
    assert not harness.upstream.received


def test_get_ignores_the_key(harness: Harness) -> None:
    key = make_key()
    for _ in range(2):
        answered = harness.ask("GET", "/v1/models", {"idempotency-key": key})
        assert "idempotent-replayed" not in answered.headers


def test_form_is_recognized_whatever_its_boundary(
    shared_upstream: FakeUpstream, shared_gateway: Gateway
) -> None:
    shared_upstream.script = lambda received: received.answer(
        b'{"text":"hi","usage":{"type":"duration","seconds":1}}'
    )
    client = shared_gateway.sdk()
    key = make_key()
    for _ in range(2):
        answered = client.audio.transcriptions.create(
            model="whisper-1", file=("a.wav", b"RIFF"), extra_headers={"idempotency-key": key}
        )
        assert answered.text == "hi"
    assert len(shared_upstream.received) == 1


def test_upload_that_streams_is_recognized_by_its_whole_body(
    shared_upstream: FakeUpstream, shared_gateway: Gateway
) -> None:
    shared_upstream.forget()
    shared_upstream.script = lambda received: received.answer(b'{"id":"file-1"}')
    key = make_key()
    large = b"x" * 600_000

    def upload(body: bytes) -> HttpResponse:
        headers = {
            "authorization": f"Bearer {shared_gateway.key}",
            "content-type": "application/octet-stream",
            "idempotency-key": key,
        }
        return ask(shared_gateway.port, "POST", "/v1/uploads/u1/parts", headers, body)

    assert upload(large).status == 200
    assert upload(large).headers["idempotent-replayed"] == "true"
    check_error(upload(large + b"y"), 422, "idempotency_key_reused", source="gateway")
    assert len(shared_upstream.received) == 1


def test_killed_server_answers_the_repetition(tmp_path: Path) -> None:
    """Settled before the kill: replayed. In flight at the kill: run again, once."""
    with running_upstream() as upstream:
        hang = threading.Event()

        def script(received: ReceivedRequest) -> None:
            if b"slow" in received.body and not hang.is_set():
                hang.wait(10)
                received.close()
                return
            received.answer(COMPLETION)

        upstream.script = script
        data = tmp_path / "data"
        with running_gateway(data, provider_url=upstream.base_url) as gateway:
            settled = Harness(gateway, upstream, None)  # type: ignore[arg-type]
            first = post(settled, "settled")
            slow = {**ASK, "messages": [{"role": "user", "content": "slow"}]}
            with ThreadPoolExecutor() as pool:
                cut = pool.submit(post, settled, "cut", slow)
                wait_until(lambda: len(upstream.received) == 2, 5)
                gateway.kill()
                hang.set()
                assert cut.exception() is not None or cut.result().status != 200
        with running_gateway(data, provider_url=upstream.base_url) as gateway:
            again = Harness(gateway, upstream, None)  # type: ignore[arg-type]
            replayed = post(again, "settled")
            assert replayed.body == first.body
            assert replayed.headers["idempotent-replayed"] == "true"
            answers = [post(again, "cut", slow) for _ in range(2)]
            assert [each.status for each in answers] == [200, 200]
            assert answers[1].headers["idempotent-replayed"] == "true"
        assert len(upstream.received) == 3
        assert ServerDatabase(data).count() == 2
