"""Repeated requests for embeddings, answered from the cache."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from tests.fakes.harness import Harness, running_harness
from tests.fakes.http_connection import HttpResponse, check_error
from tests.fakes.upstream import ReceivedRequest

EMBEDDINGS = "/v1/embeddings"
MODEL = "text-embedding-3-small"
ASK: dict[str, Any] = {"model": MODEL, "input": ["a", "b"]}
TOKENS = 4
"""Of each input."""


def embed(text: Any) -> list[float]:
    """Return a vector that only this input has."""
    return [len(str(text)) + 0.5, sum(str(text).encode()) / 8]


def answer_embeddings(received: ReceivedRequest) -> None:
    """Answer as OpenAI does, but with the data in another order."""
    asked = json.loads(received.body)
    inputs: list[Any] = asked["input"]
    if isinstance(inputs, str) or isinstance(inputs[0], int):
        inputs = [inputs]
    data = [
        {"object": "embedding", "index": index, "embedding": embed(each)}
        for index, each in enumerate(inputs)
    ]
    tokens = TOKENS * len(inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    body = {"object": "list", "data": data[::-1], "model": MODEL, "usage": usage}
    received.answer(json.dumps(body).encode())


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    with running_harness(tmp_path_factory.mktemp("cache") / "data") as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    module_harness.answer_with(answer_embeddings)
    return module_harness


def list_vectors(answered: HttpResponse) -> list[list[float]]:
    body = json.loads(answered.body)
    if answered.headers["x-headgate-cache-status"] != "miss":
        assert [each["index"] for each in body["data"]] == list(range(len(body["data"])))
    return [each["embedding"] for each in sorted(body["data"], key=lambda each: each["index"])]


def list_sent(harness: Harness) -> list[Any]:
    return [json.loads(each.body)["input"] for each in harness.upstream.received]


def test_repeated_request_is_a_hit_that_costs_nothing(harness: Harness) -> None:
    asked = {**ASK, "input": "hit"}
    first = harness.post(EMBEDDINGS, asked)
    second = harness.post(EMBEDDINGS, {"user": "somebody", **asked})
    assert list_vectors(first) == list_vectors(second) == [embed("hit")]
    assert list(json.loads(second.body)) == ["object", "data", "model", "usage"]
    assert json.loads(second.body)["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    assert first.headers["x-headgate-cache-status"] == "miss"
    assert second.headers["x-headgate-cache-status"] == "hit"
    assert second.headers["x-headgate-cost"] == "0.000000000"
    assert second.headers["x-headgate-input-tokens"] == "0"
    assert second.headers["x-headgate-retries"] == "0"
    assert len(harness.upstream.received) == 1
    miss, hit = harness.receipts.take()
    assert (miss.cache_status, hit.cache_status) == ("miss", "hit")
    assert miss.cost_nano > hit.cost_nano == 0


def test_batch_is_sent_and_billed_without_its_known_inputs(harness: Harness) -> None:
    harness.post(EMBEDDINGS, {**ASK, "input": ["known 1", "known 2"]})
    batch = ["new 1", "known 2", "new 2", "known 1", "new 3"]
    partial = harness.post(EMBEDDINGS, {**ASK, "input": batch})
    assert partial.headers["x-headgate-cache-status"] == "partial"
    assert list_vectors(partial) == [embed(each) for each in batch]
    assert json.loads(partial.body)["usage"]["prompt_tokens"] == 3 * TOKENS
    assert partial.headers["x-headgate-input-tokens"] == str(3 * TOKENS)
    assert list_sent(harness) == [["known 1", "known 2"], ["new 1", "new 2", "new 3"]]
    hit = harness.post(EMBEDDINGS, {**ASK, "input": batch[::-1]})
    assert hit.headers["x-headgate-cache-status"] == "hit"
    assert list_vectors(hit) == [embed(each) for each in batch[::-1]]
    costs = {each.cache_status: each.cost_nano for each in harness.receipts.take()}
    assert costs["partial"] * 2 == costs["miss"] * 3
    assert costs["hit"] == 0


def test_single_input_and_batch_share_what_is_known(harness: Harness) -> None:
    harness.post(EMBEDDINGS, {**ASK, "input": "caf\u00e9"})
    raw = b'{"model":"%b","input":["caf\xc3\xa9"]}' % MODEL.encode()
    hit = harness.post(EMBEDDINGS, raw)
    assert hit.headers["x-headgate-cache-status"] == "hit"


def test_tokens_are_inputs_too(harness: Harness) -> None:
    harness.post(EMBEDDINGS, {**ASK, "input": [1, 2, 3]})
    partial = harness.post(EMBEDDINGS, {**ASK, "input": [[1, 2, 3], [1, 2, 4]]})
    assert partial.headers["x-headgate-cache-status"] == "partial"
    assert list_sent(harness) == [[1, 2, 3], [[1, 2, 4]]]
    assert list_vectors(partial) == [embed([1, 2, 3]), embed([1, 2, 4])]


def test_large_batch_keeps_its_order(harness: Harness) -> None:
    texts = [f"text {number}" for number in range(600)]
    harness.post(EMBEDDINGS, {**ASK, "input": texts[::3]})
    partial = harness.post(EMBEDDINGS, {**ASK, "input": texts})
    assert list_vectors(partial) == [embed(each) for each in texts]
    assert len(list_sent(harness)[1]) == 400


def test_repetition_with_a_key_is_replayed_and_uses_the_cache(harness: Harness) -> None:
    asked = {**ASK, "input": ["with key 1", "with key 2"]}
    harness.post(EMBEDDINGS, {**asked, "input": "with key 2"})
    headers = {"idempotency-key": "embeddings"}
    first, second = (harness.post(EMBEDDINGS, asked, headers) for _ in range(2))
    assert first.headers["x-headgate-cache-status"] == "partial"
    assert first.body == second.body
    assert second.headers["idempotent-replayed"] == "true"
    assert len(harness.upstream.received) == 2


def test_answer_that_does_not_fit_its_inputs_is_not_joined(harness: Harness) -> None:
    harness.post(EMBEDDINGS, {**ASK, "input": "fits"})
    for data in (b"[]", b'[{"index":7,"embedding":[1]}]', b'[{"index":0}]', b"{}"):
        body = b'{"object":"list","data":%b}' % data
        harness.answer_with(lambda received, body=body: received.answer(body))
        refused = harness.post(EMBEDDINGS, {**ASK, "input": ["fits", "fits not"]})
        check_error(refused, 502, "provider_invalid_response", source="gateway")
        assert harness.post(EMBEDDINGS, {**ASK, "input": "other"}).body == body


@pytest.mark.parametrize(
    "headers", [{"x-headgate-cache": "bypass"}, {"cache-control": "max-age=0, no-cache"}]
)
def test_bypass_asks_the_provider(harness: Harness, headers: dict[str, str]) -> None:
    asked = {**ASK, "input": f"bypass {headers}"}
    for _ in range(2):
        answered = harness.post(EMBEDDINGS, asked, headers)
        assert answered.headers["x-headgate-cache-status"] == "bypass"
    assert len(harness.upstream.received) == 2


@pytest.mark.parametrize("changed", [{"dimensions": 2}, {"encoding_format": "base64"}])
def test_other_parameters_are_another_request(harness: Harness, changed: dict[str, int]) -> None:
    asked = {**ASK, "input": f"other {changed}"}
    harness.post(EMBEDDINGS, asked)
    answered = harness.post(EMBEDDINGS, {**asked, **changed})
    assert answered.headers["x-headgate-cache-status"] == "miss"


def test_failure_is_not_cached(harness: Harness) -> None:
    harness.answer_with(lambda received: received.answer(b'{"error":{}}', status=400))
    for _ in range(2):
        assert harness.post(EMBEDDINGS, {**ASK, "input": "bad"}).status == 400
    assert len(harness.upstream.received) == 2


def test_other_calls_bypass_the_cache(harness: Harness) -> None:
    harness.answer_with(lambda received: received.answer(b"{}"))
    answered = harness.post("/v1/chat/completions", {"model": "gpt-5.4-mini", "messages": []})
    assert answered.headers["x-headgate-cache-status"] == "bypass"
