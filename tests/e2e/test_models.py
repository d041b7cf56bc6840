"""`/v1/models` with model metadata, by the official SDK and by raw requests."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import openai
import pytest

from headgate.audit.model import COMMAND_LINE
from headgate.cli.data_directory import open_data_directory
from headgate.keys.model import KeyRequest
from tests.fakes.gateway import Gateway, start_gateway
from tests.fakes.harness import Harness, running_harness
from tests.fakes.http_connection import ask, check_error
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream
from tests.fakes.waiting import wait_until

MINI = "gpt-5.4-mini"
LIST = (
    b'{"object":"list","data":[{"id":"gpt-5.4-mini","object":"model","created":1,"owned_by":"x"},'
    b'{"id":"org/house","object":"model","created":2,"owned_by":"y"}]}'
)
HOUSE = b'{"id":"org/new","object":"model","created":3,"owned_by":"y"}'
UNKNOWN = b'{"error":{"message":"No such model","code":"model_not_found","type":"x","param":null}}'
COMPLETION = b'{"id":"c1","model":"gpt-5.4-mini","choices":[],"usage":{"prompt_tokens":9}}'


def answer(received: ReceivedRequest) -> None:
    if received.target.startswith("/v1/chat"):
        received.answer(COMPLETION)
    elif received.target.startswith("/v1/models/org/new"):
        received.answer(HOUSE)
    elif received.target.startswith("/v1/models/"):
        received.answer(UNKNOWN, status=404)
    else:
        received.answer(LIST)


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    with running_harness(tmp_path_factory.mktemp("models") / "data") as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    """Start without a cached list of the test before."""
    module_harness.answer_with(answer)
    module_harness.ask("GET", "/v1/models?refresh=true")
    module_harness.renew()
    module_harness.answer_with(answer)
    return module_harness


def test_sdk_lists_and_retrieves_with_model_metadata_as_extra_fields(harness: Harness) -> None:
    client = harness.gateway.sdk()
    listed = {model.id: model for model in client.models.list()}
    assert list(listed) == [MINI, "org/house"]
    assert (listed[MINI].owned_by, listed[MINI].created) == ("x", 1)
    metadata: dict[str, Any] = (listed[MINI].model_extra or {})["headgate"]
    assert metadata["price"]["output"] == "4.5"
    assert set(metadata) >= {"price", "latency", "capabilities", "context", "deprecation"}
    for name in (MINI, "org/house"):
        one = client.models.retrieve(name)
        assert one == listed[name]
    assert harness.upstream.received == []
    new = client.models.retrieve("org/new")
    assert (new.id, (new.model_extra or {})["headgate"]["price"]) == ("org/new", None)
    assert [received.target for received in harness.upstream.received] == ["/v1/models/org/new"]


def test_unknown_model_of_the_list_has_the_providers_error(harness: Harness) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        harness.gateway.sdk().models.retrieve("none")
    assert raised.value.code == "model_not_found"
    assert raised.value.response.headers["x-headgate-error-source"] == "provider"


def test_list_is_cached_and_every_read_of_it_leaves_a_free_receipt(harness: Harness) -> None:
    """M36: a second list makes no upstream call; refresh does."""
    for target, source in (
        ("/v1/models", "hit"),
        ("/v1/models?refresh=true", "miss"),
        ("/v1/models", "hit"),
        (f"/v1/models/{MINI}", "hit"),
    ):
        answered = harness.ask("GET", target)
        assert answered.headers["x-headgate-cache-status"] == source
        assert answered.headers["x-headgate-cost"] == "0.000000000"
        assert answered.headers["x-headgate-provider"] == "openai"
        assert answered.headers["content-length"] == str(len(answered.body))
    assert len(harness.upstream.received) == 1
    receipts = harness.receipts.take()
    assert [(r.endpoint, r.outcome, r.pricing, r.attempts) for r in receipts] == [
        ("models", "completed", "free", attempts) for attempts in (0, 1, 0, 0)
    ]
    assert all(0 <= r.first_byte_microseconds < 60_000_000 for r in receipts)


def test_limited_key_sees_its_part_of_the_cached_list(harness: Harness) -> None:
    with (
        open_data_directory(harness.gateway.data, {}) as application,
        application.database.transaction() as connection,
    ):
        organization = application.accounts.list_organizations(connection)[0]
        request = KeyRequest(
            name="limited",
            organization_id=organization.id,
            project_id=harness.gateway.keys["project_id"],
            models=("org/*",),
        )
        token = application.keys.create(connection, request, by=COMMAND_LINE).token
    headers = {"authorization": f"Bearer {token}"}
    wait_until(lambda: harness.ask("GET", "/v1/models", headers).status == 200)
    harness.renew()
    shown = harness.ask("GET", "/v1/models", headers)
    assert [model["id"] for model in shown.json["data"]] == ["org/house"]
    assert harness.ask("GET", "/v1/models/org%2Fhouse", headers).json["id"] == "org/house"
    hidden = harness.ask("GET", f"/v1/models/{MINI}", headers)
    check_error(hidden, 404, "model_not_found", source="gateway")
    assert harness.upstream.received == []


def test_failure_of_the_provider_surfaces(harness: Harness) -> None:
    body = b'{"error":{"message":"Bad key","code":"invalid_api_key"}}'
    harness.answer_with(lambda received: received.answer(body, status=401))
    answered = harness.ask("GET", "/v1/models", {"cache-control": "no-cache"})
    check_error(answered, 401, "provider_rejected_credential", source="provider")
    assert "Bad key" in answered.error["message"]
    assert harness.ask("GET", "/v1/models").headers["x-headgate-cache-status"] == "hit"


def ask_gateway(gateway: Gateway, method: str, target: str, body: bytes | None = None) -> Any:
    headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    return ask(gateway.port, method, target, headers, body)


def find_card(gateway: Gateway) -> dict[str, Any]:
    shown = ask_gateway(gateway, "GET", "/v1/models?refresh=true").json
    return next(model["headgate"] for model in shown["data"] if model["id"] == MINI)


def test_measured_latency_is_shown_and_the_list_outlives_its_provider(tmp_path: Path) -> None:
    body = json.dumps({"model": MINI, "messages": []}).encode()
    with running_upstream() as upstream:
        upstream.script = answer
        before = start(tmp_path, upstream)
        try:
            assert find_card(before)["latency"]["band"] is None
            assert ask_gateway(before, "POST", "/v1/chat/completions", body).status == 200
        finally:
            before.stop()
        gateway = start(tmp_path, upstream)
        try:
            wait_until(lambda: find_card(gateway)["latency"]["samples"] == 1)
            latency = find_card(gateway)["latency"]
            assert latency["band"] in ("low", "standard", "high")
            assert 0 <= latency["p50_ms"] == latency["p95_ms"]
            upstream.script = lambda received: received.answer(b"{}", status=500)
            failed = ask_gateway(gateway, "GET", "/v1/models?refresh=true")
            assert failed.status == 500
            refused = ask_gateway(gateway, "GET", "/v1/models?refresh=true")
            check_error(refused, 503, "provider_circuit_open", source="gateway")
            assert ask_gateway(gateway, "GET", "/v1/models").status == 200
        finally:
            gateway.stop()


def start(folder: Path, upstream: FakeUpstream) -> Gateway:
    return start_gateway(
        folder / "data", provider_url=upstream.base_url, breaker_failures=1, retries_max=0
    )
