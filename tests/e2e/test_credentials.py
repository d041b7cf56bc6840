"""Credentials of the platform API at work: which one a call uses, and what changes when it goes."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Generator
from typing import Any

import pytest

from tests.fakes import http_connection
from tests.fakes.harness import JSON_TYPE, Harness, running_harness
from tests.fakes.http_connection import HttpResponse, check_error
from tests.fakes.upstream import ReceivedRequest
from tests.fakes.waiting import wait_until

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "Hi"}]}
GOOD = b'{"id":"c1","model":"gpt-5.4-mini","choices":[],"usage":{"prompt_tokens":1}}'
WRITE_BACK_SECONDS = 15.0


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    with running_harness(tmp_path_factory.mktemp("credentials") / "data", retries_max=0) as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Generator[Harness]:
    """Start with nothing but the credential of the environment."""
    module_harness.renew()
    module_harness.answer_with(lambda received: received.answer(GOOD))
    yield module_harness
    for each in list_credentials(module_harness):
        if each["display_name"] != "environment":
            manage(module_harness, "DELETE", f"/api/credentials/{each['credential_id']}")


def manage(harness: Harness, method: str, path: str, body: Any = None) -> HttpResponse:
    """Call the platform API with the first management key."""
    keys = harness.gateway.keys
    headers = {
        "authorization": f"Bearer {keys['admin_key']}",
        "x-organization-id": keys["organization_id"],
        **JSON_TYPE,
    }
    data = None if body is None else json.dumps(body).encode()
    return http_connection.ask(harness.gateway.port, method, path, headers, data)


def list_credentials(harness: Harness) -> list[dict[str, Any]]:
    return manage(harness, "GET", "/api/credentials?integration_name=openai").json["credentials"]


def add(harness: Harness, letter: str, **more: Any) -> str:
    """Add a credential of the fake provider, whose key has that letter."""
    data = {"api_key": key_of(letter), "base_url": harness.upstream.base_url}
    body = {"integration_name": "openai", "auth_data": data, **more}
    answered = manage(harness, "POST", "/api/credentials", body)
    assert answered.status == 201, answered.body
    return answered.json["credential_id"]


def key_of(letter: str) -> str:
    return f"sk-0123456789abcdefghijklmnopqr{letter}"


def used(harness: Harness, name: str | None = None) -> str:
    """Return the letter of the key that a call is sent with."""
    headers = {} if name is None else {"x-headgate-credential": name}
    answered = harness.post(CHAT, ASK, headers)
    assert answered.status == 200, answered.body
    return harness.upstream.received[-1].headers["authorization"][-1]


def test_named_then_default_then_newest_that_is_valid(harness: Harness) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=4)
    older = add(harness, "a", display_name="older")
    default = add(harness, "b", make_default=True, expires_at=soon.isoformat())
    newest = add(harness, "c", display_name="newest")
    assert used(harness) == "b"
    assert used(harness, "older") == used(harness, older) == "a"
    wait_until(lambda: datetime.datetime.now(datetime.UTC) > soon, 10.0)
    assert used(harness) == "c"
    refused = harness.post(CHAT, ASK, {"x-headgate-credential": default})
    check_error(refused, 400, "credential_unusable", source="gateway")
    assert default in refused.error["message"]
    manage(harness, "POST", f"/api/credentials/{older}/set-default")
    assert used(harness) == "a"
    manage(harness, "DELETE", f"/api/credentials/{older}")
    assert used(harness) == "c"
    refused = harness.post(CHAT, ASK, {"x-headgate-credential": older})
    check_error(refused, 400, "credential_unusable", source="gateway")
    assert older in refused.error["message"]
    assert used(harness, newest) == "c"


def test_same_address_is_used_for_runs_and_tests(harness: Harness) -> None:
    credential_id = add(harness, "d")
    tried = manage(harness, "POST", f"/api/credentials/{credential_id}/test").json
    assert tried["is_valid"], tried
    assert used(harness, credential_id) == "d"
    [test, run] = harness.upstream.received
    assert test.headers["authorization"] == run.headers["authorization"]
    assert (test.target, run.target) == (CHAT, CHAT)


def test_call_on_a_deleted_credential_goes_on_to_its_end(harness: Harness) -> None:
    credential_id = add(harness, "e")
    may_end, begun = threading.Event(), threading.Event()

    def stream(received: ReceivedRequest) -> None:
        received.begin_stream()
        received.send_chunk(b'data: {"id":"c1","choices":[]}\n\n')
        begun.set()
        assert may_end.wait(20)
        received.send_chunk(b"data: [DONE]\n\n")
        received.send_end()

    harness.answer_with(stream)
    answers: list[HttpResponse] = []
    headers = {"x-headgate-credential": credential_id}
    running = threading.Thread(
        target=lambda: answers.append(harness.post(CHAT, {**ASK, "stream": True}, headers))
    )
    running.start()
    try:
        assert begun.wait(20)
        assert manage(harness, "DELETE", f"/api/credentials/{credential_id}").status == 204
        refused = harness.post(CHAT, ASK, headers)
        check_error(refused, 400, "credential_unusable", source="gateway")
    finally:
        may_end.set()
        running.join()
    assert answers[0].body.endswith(b"data: [DONE]\n\n")


def test_use_is_counted_and_limits_of_the_provider_are_noted(harness: Harness) -> None:
    credential_id = add(harness, "f")
    path = f"/api/credentials/{credential_id}"
    assert manage(harness, "GET", path).json["last_used_at"] is None
    limits = {"x-ratelimit-limit-requests": "500", "x-ratelimit-limit-tokens": "30000"}
    harness.answer_with(lambda received: received.answer(GOOD, headers=limits))
    for _ in range(3):
        assert used(harness, credential_id) == "f"
    harness.answer_with(lambda received: received.answer(b'{"error":{"message":"no"}}', status=400))
    assert harness.post(CHAT, ASK, {"x-headgate-credential": credential_id}).status == 400
    wait_until(
        lambda: manage(harness, "GET", f"{path}/usage").json["total_calls"] == 4, WRITE_BACK_SECONDS
    )
    usage = manage(harness, "GET", f"{path}/usage").json
    assert (usage["successful_calls"], usage["failed_calls"]) == (3, 1)
    assert (usage["success_rate"], usage["action_breakdown"]) == (0.75, {"chat.completions": 4})
    wait_until(lambda: manage(harness, "GET", path).json["last_used_at"], WRITE_BACK_SECONDS)
    connection = f"/api/connections/{credential_id}"
    shown = manage(harness, "GET", connection).json["discovered_capacity"]
    assert list(shown) == [ASK["model"]]
    assert (shown[ASK["model"]]["requests"], shown[ASK["model"]]["tokens"]) == (500, 30_000)


def test_secret_behind_a_reference_is_sent_and_never_comes_back(harness: Harness) -> None:
    value = key_of("g")
    sent = {"key_name": "mine", "value": value, "base_url": harness.upstream.base_url}
    assert manage(harness, "POST", "/api/secrets", sent).status == 200
    data = {"api_key": "{{vault:mine}}", "base_url": harness.upstream.base_url}
    made = manage(
        harness, "POST", "/api/credentials", {"integration_name": "openai", "auth_data": data}
    )
    credential_id = made.json["credential_id"]
    assert used(harness, credential_id) == "g"
    harness.answer_with(
        lambda received: received.answer(
            b'{"error":{"message":"Incorrect API key: %b"}}' % value.encode(), status=401
        )
    )
    echoed = harness.post(CHAT, ASK, {"x-headgate-credential": credential_id})
    assert echoed.status == 401
    assert value.encode() not in echoed.body
    assert manage(harness, "DELETE", "/api/secrets/mine").status == 200
    refused = harness.post(CHAT, ASK, {"x-headgate-credential": credential_id})
    check_error(refused, 400, "credential_unusable", source="gateway")
    assert "'mine'" in refused.error["message"]


def test_models_of_a_connection_bound_its_calls(harness: Harness) -> None:
    add(harness, "h", display_name="any", make_default=True)
    config = {"api_key": key_of("i"), "base_url": harness.upstream.base_url}
    body = {"name": "narrow", "allowed_models": ["gpt-5.5"], "config": config}
    made = manage(harness, "POST", "/api/connections", body).json
    manage(harness, "POST", f"/api/credentials/{made['id']}/set-default")
    assert used(harness) == "h"
    refused = harness.post(CHAT, ASK, {"x-headgate-credential": "narrow"})
    check_error(refused, 400, "credential_unusable", source="gateway")
    harness.upstream.forget()
    assert harness.post(CHAT, {**ASK, "model": "gpt-5.5"}).status == 200
    assert harness.upstream.received[-1].headers["authorization"].endswith("i")
