"""A key that is limited to models, endpoints or a rate sees and calls no others."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.harness import Harness, running_harness
from tests.fakes.http_connection import HttpResponse, check_error

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    data = tmp_path_factory.mktemp("scopes") / "data"
    with running_harness(data, models_cache_seconds=0) as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    return module_harness


def make_key(harness: Harness, *options: str) -> dict[str, str]:
    created = harness.gateway.run("keys", "create", "--json", *options)
    token = json.loads(created.stdout)["token"]
    headers = {"authorization": f"Bearer {token}"}
    for _ in range(1000):
        if harness.ask("GET", "/v1/models", headers).status != 401:
            break
    harness.renew()
    return headers


MODELS = (
    b'{ "object":"list","data":[ {"id":"gpt-5.4-mini","created":1.50},'
    b'{"id":"gpt-4o" , "novel":[1 ,2]},{"id":"gpt-4o-mini"}],"novel": 1.50 }'
)


@pytest.fixture(scope="module")
def limited(module_harness: Harness) -> dict[str, str]:
    return make_key(module_harness, "--models", "gpt-4o*,ft:gpt-4o:*")


def test_key_without_a_scope_sees_every_model_byte_for_byte(harness: Harness) -> None:
    harness.answer_with(lambda received: received.answer(MODELS))
    body = harness.ask("GET", "/v1/models").body
    assert body.startswith(
        b'{"object":"list","data":[{"id":"gpt-5.4-mini","created":1.50,"headgate":'
    )
    assert b'},{"id":"gpt-4o" , "novel":[1 ,2],"headgate":{' in body
    assert body.endswith(b'}],"novel":1.50}')
    assert harness.ask("GET", "/v1/models", {"x-headgate-raw": "true"}).body == MODELS


def test_limited_key_sees_its_models_only(harness: Harness, limited: dict[str, str]) -> None:
    harness.answer_with(lambda received: received.answer(MODELS))
    raw = {**limited, "x-headgate-raw": "true"}
    assert harness.ask("GET", "/v1/models?x=1", raw).body == (
        b'{"object":"list","data":[{"id":"gpt-4o" , "novel":[1 ,2]},{"id":"gpt-4o-mini"}],'
        b'"novel":1.50}'
    )
    receipt = harness.receipts.take_one()
    shown = harness.ask("GET", "/v1/models", limited).json
    assert [model["id"] for model in shown["data"]] == ["gpt-4o", "gpt-4o-mini"]
    assert (receipt.endpoint, receipt.pricing, receipt.outcome) == ("models", "free", "completed")


@pytest.mark.parametrize("body", [b"[]", b'{"data":{}}', b'{"data":[{"name":"gpt-5"}]}', b"<html>"])
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "text/event-stream"])
def test_unreadable_list_is_hidden_from_a_limited_key(
    harness: Harness, limited: dict[str, str], body: bytes, kind: str
) -> None:
    harness.answer_with(lambda received: received.answer(body, headers={"content-type": kind}))
    answered = harness.ask("GET", "/v1/models", limited)
    check_error(answered, 502, "provider_invalid_response", source="gateway")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("model", ["gpt-5.4-mini", "ft:gpt-5:x::1", "ft%3Agpt-5%3Ax"])
def test_model_outside_the_scope_does_not_exist(
    harness: Harness, limited: dict[str, str], method: str, model: str
) -> None:
    answered = harness.ask(method, f"/v1/models/{model}", limited)
    check_error(answered, 404, "model_not_found", source="gateway")
    assert answered.error["param"] == "model"
    assert harness.upstream.received == []


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-2024-05-13", "ft:gpt-4o:acme::1"])
def test_model_inside_the_scope_is_shown(
    harness: Harness, limited: dict[str, str], model: str
) -> None:
    assert harness.ask("GET", f"/v1/models/{model}", limited).status == 200
    assert harness.upstream.received[0].target == f"/v1/models/{model}"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (CHAT, b'{"model":"gpt-5.4-mini"}'),
        (CHAT, b"{}"),
        ("/v1/responses", b'{"model":"gpt-5.4-mini"}'),
        ("/v1/something/new", b'{"model":"gpt-4o"}'),
    ],
)
def test_limited_key_calls_its_models_only(
    harness: Harness, limited: dict[str, str], target: str, body: bytes
) -> None:
    answered = harness.post(target, body, limited)
    check_error(answered, 403, "model_out_of_scope", source="gateway")
    assert harness.upstream.received == []
    assert harness.post(CHAT, b'{"model":"gpt-4o"}', limited).status == 200


def test_key_limited_to_endpoints_uses_these_only(harness: Harness) -> None:
    headers = make_key(harness, "--endpoints", "embeddings,models")
    assert harness.post("/v1/embeddings", b'{"model":"m","input":"x"}', headers).status == 200
    answered = harness.post(CHAT, b'{"model":"m"}', headers)
    check_error(answered, 403, "endpoint_out_of_scope", source="gateway")


def test_rate_limited_key_gets_retry_after(harness: Harness) -> None:
    headers = make_key(harness, "--requests-per-minute", "3")
    answers = [harness.ask("GET", "/v1/models", headers) for _ in range(4)]
    assert answers[-1].status == 429
    check_error(answers[-1], 429, "rate_limited", source="gateway")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert len(harness.upstream.received) <= 3


def test_limit_holds_for_calls_that_come_at_once(harness: Harness) -> None:
    """Of 200 calls at the same time, as many as the limit allows are made, and no more."""
    limit, calls = 50, 200
    started = time.monotonic()
    headers = make_key(harness, "--requests-per-minute", str(limit))

    def ask(_number: int) -> HttpResponse:
        return harness.ask("GET", "/v1/models", headers)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(calls)))
    came_back = int((time.monotonic() - started) * limit / 60) + 1
    admitted = [answered.status for answered in answers].count(200)
    assert limit - 1 <= admitted <= limit - 1 + came_back, "one went when the key was made"
    assert len(harness.receipts.take()) == len(harness.upstream.received) == admitted
