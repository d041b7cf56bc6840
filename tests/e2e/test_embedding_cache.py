"""Repeated requests for embeddings, answered from the cache."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.fakes.harness import Harness, running_harness

EMBEDDINGS = "/v1/embeddings"
ASK = {"model": "text-embedding-3-small", "input": ["a", "b"]}
VECTORS = (
    b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,0.25]}],'
    b'"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}'
)


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    folder = tmp_path_factory.mktemp("cache") / "data"
    with running_harness(folder, embedding_cache_bytes_max=1_000_000) as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    module_harness.answer_with(lambda received: received.answer(VECTORS))
    return module_harness


def test_repeated_request_is_a_hit_that_costs_nothing(harness: Harness) -> None:
    asked = {**ASK, "input": "hit"}
    first = harness.post(EMBEDDINGS, asked)
    second = harness.post(EMBEDDINGS, {"user": "somebody", **asked})
    assert first.body == second.body == VECTORS
    assert first.headers["x-headgate-cache-status"] == "miss"
    assert second.headers["x-headgate-cache-status"] == "hit"
    assert second.headers["x-headgate-cost"] == "0.000000000"
    assert second.headers["x-headgate-input-tokens"] == "0"
    assert second.headers["x-headgate-retries"] == "0"
    assert len(harness.upstream.received) == 1
    miss, hit = harness.receipts.take()
    assert (miss.cache_status, hit.cache_status) == ("miss", "hit")
    assert miss.cost_nano > hit.cost_nano == 0


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
    answered = harness.post("/v1/chat/completions", {"model": "gpt-5.4-mini", "messages": []})
    assert answered.headers["x-headgate-cache-status"] == "bypass"
