"""OpenAI's actions on a running server: over REST, against the simulator and a fake provider."""

from __future__ import annotations

import base64
import json
import time
import urllib.parse
from collections.abc import Generator
from typing import Any

import pytest

from tests.fakes import http_connection
from tests.fakes.http_connection import HttpResponse
from tests.fakes.simulated_gateway import SimulatedGateway
from tests.fakes.upstream import FakeUpstream, ReceivedRequest

ASKED = [{"role": "user", "content": "Hello"}]
SECRET = "sk-0123456789abcdefghijklmnopqrA"


def ask(
    sdk: SimulatedGateway, method: str, path: str, body: Any = None, *, key: str = ""
) -> HttpResponse:
    headers = {
        "authorization": f"Bearer {key or sdk.gateway.key}",
        "x-organization-id": sdk.gateway.keys["organization_id"],
        "content-type": "application/json",
    }
    data = None if body is None else json.dumps(body).encode()
    return http_connection.ask(sdk.gateway.port, method, path, headers, data)


def run(sdk: SimulatedGateway, action: str, given: Any = None, *, status: int = 200) -> Any:
    """Run an action at its own address; return `data`, or the whole error."""
    answered = ask(sdk, "POST", f"/api/connectors/openai/actions/{action}", given or {})
    assert answered.status == status, answered.body
    return answered.json["data"] if status == 200 else answered.json


@pytest.fixture(scope="module")
def provider(
    module_simulated_gateway: SimulatedGateway, shared_upstream: FakeUpstream
) -> FakeUpstream:
    """Return a fake provider, which answers for the connections `plain` and `organized`."""
    for name, more in (("plain", {}), ("organized", {"organization": "org-acme"})):
        given = {
            "integration_name": "openai",
            "auth_data": {"api_key": SECRET, "base_url": shared_upstream.base_url, **more},
            "display_name": name,
        }
        key = module_simulated_gateway.gateway.keys["admin_key"]
        added = ask(module_simulated_gateway, "POST", "/api/credentials", given, key=key)
        assert added.status == 201, added.body
    return shared_upstream


@pytest.fixture
def upstream(provider: FakeUpstream) -> Generator[FakeUpstream]:
    provider.forget()
    yield provider
    provider.script = lambda received: received.answer(b"{}")


def test_every_action_is_answered_by_the_simulator_and_metered(sdk: SimulatedGateway) -> None:
    reply = run(sdk, "chat-completion", {"messages": ASKED, "temperature": "0.5"})
    assert "Hello" in reply["content"]
    assert reply["usage"]["total_tokens"] > 0
    receipt = sdk.receipts.take_one()
    assert (receipt.endpoint, receipt.model_requested) == ("chat.completions", "gpt-4o-mini")
    assert receipt.cost_nano > 0

    assert (
        "Hello" in run(sdk, "chat-completion", {"messages": ASKED, "model": "o3-mini"})["content"]
    )
    body = run(sdk, "create-chat-completion", {"messages": json.dumps(ASKED), "n": "2"})
    assert len(body["choices"]) == 2
    assert run(sdk, "create-chat-completion")["model"] == "gpt-3.5-turbo"
    body = run(sdk, "create-response", {"input": "Hello"})
    assert (body["object"], body["model"]) == ("response", "gpt-4.1")
    assert len(run(sdk, "create-embedding", {"input": "a"})["embedding"]) == 1536
    assert len(run(sdk, "create-embedding", {"input": ["a", "b"]})["embeddings"]) == 2
    endpoints = [receipt.endpoint for receipt in sdk.receipts.take()]
    assert endpoints == ["chat.completions"] * 3 + ["responses"] + ["embeddings"] * 2

    [image] = run(sdk, "generate-image", {"prompt": "A cat"})["images"]
    assert image["url"]
    given = {"prompt": "A cat", "model": "gpt-image-1", "n": 2, "size": "512x512"}
    generated = run(sdk, "generate-image", given)
    assert base64.b64decode(generated["images"][1]["b64_json"]).startswith(b"\x89PNG")
    assert len(generated["notes"]) == 1
    assert len(run(sdk, "create-image", {"prompt": "A cat", "n": 2})["data"]) == 2
    assert run(sdk, "get-model-by-id", {"model": "gpt-4o"})["id"] == "gpt-4o"


@pytest.mark.parametrize("by", ["handle", "b64_json"])
def test_image_becomes_an_asset_byte_for_byte(sdk: SimulatedGateway, by: str) -> None:
    """An agent hands it over by the id of its handle, and never carries the image."""
    given = {"prompt": "A cat", "response_format": by}
    [image] = run(sdk, "generate-image", given)["images"]
    [whole] = run(sdk, "generate-image", {**given, "response_format": "b64_json"})["images"]
    names = {"handle": "handle", "b64_json": "content"}
    upload = {names[by]: image[by], "slug": f"cat-{by}.png"}
    assert set(image) - {by} == {"media_type"}
    admin = sdk.gateway.keys["admin_key"]
    stored = ask(sdk, "POST", "/api/assets", upload, key=admin)
    assert stored.status == 201, stored.body
    path = urllib.parse.urlsplit(str(stored.json["url"])).path
    served = http_connection.ask(sdk.gateway.port, "GET", path)
    assert served.body == base64.b64decode(whole["b64_json"])
    assert served.headers["content-type"] == "image/png"


def test_models_are_listed_and_picked(sdk: SimulatedGateway) -> None:
    listed = ask(sdk, "GET", "/api/integrations/openai/list-models").json
    assert listed["success"] is True
    ids = {each["id"] for each in listed["data"]["data"]}
    assert {"gpt-4o", "o3-mini"} <= ids
    picked = ask(sdk, "GET", "/api/connectors/openai/data-sources/list-models").json["data"]
    assert picked == [{"label": each, "key": each} for each in sorted(ids)]


def test_organization_is_sent_only_where_the_connection_has_one(
    sdk: SimulatedGateway, upstream: FakeUpstream
) -> None:
    run(sdk, "create-response", {"input": "a", "connection": "plain"})
    run(sdk, "create-response", {"input": "a", "connection": "organized"})
    plain, organized = (received.headers for received in upstream.received)
    assert "openai-organization" not in plain
    assert organized["openai-organization"] == "org-acme"
    assert plain["authorization"] == organized["authorization"] == f"Bearer {SECRET}"


def test_error_of_the_provider_comes_with_its_status_and_what_to_do(
    sdk: SimulatedGateway, upstream: FakeUpstream
) -> None:
    body = {"error": {"message": "No such model.", "code": "model_not_found", "param": "model"}}
    upstream.script = lambda received: received.answer(json.dumps(body).encode(), status=404)
    given = {"model": "gpt-9", "connection": "plain"}
    failed = ask(sdk, "POST", "/api/connectors/openai/actions/get-model-by-id", given)
    assert failed.status == 502
    assert failed.json == {
        "detail": "No such model.",
        "code": "provider_error",
        "status": 404,
        "data": body,
        "recovery": failed.json["recovery"],
    }

    body = {"error": {"message": "Incorrect API key.", "code": "invalid_api_key"}}
    upstream.script = lambda received: received.answer(json.dumps(body).encode(), status=401)
    given = {"messages": ASKED, "connection": "plain"}
    failed = ask(sdk, "POST", "/api/integrations/openai/chat-completion", given).json
    assert failed["success"] is False
    assert failed["error_object"]["code"] == "provider_error"
    assert "setup_integration" in failed["error_object"]["recovery"]


def hang(received: ReceivedRequest) -> None:
    received.wait_closed(10)


def test_action_ends_at_its_time_out(sdk: SimulatedGateway, upstream: FakeUpstream) -> None:
    upstream.script = hang
    began = time.monotonic()
    given = {"input": "a", "connection": "plain", "timeout": 300}
    failed = run(sdk, "create-response", given, status=504)
    assert 0.3 <= time.monotonic() - began < 5
    assert failed["code"] == "action_timed_out"


def test_field_that_is_wrong_is_named_before_anything_is_sent(sdk: SimulatedGateway) -> None:
    given = {"prompt": "A cat", "n": 2}
    failed = ask(sdk, "POST", "/api/integrations/openai/generate-image", given)
    assert failed.status == 422
    assert failed.json["error_object"]["field"] == "n"
    # The receipt of a call that timed out before may come now.
    assert "images.generations" not in [each.endpoint for each in sdk.receipts.take()]
