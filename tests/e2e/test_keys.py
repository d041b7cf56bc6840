"""The limits of a key as a client of `/v1` sees them, and how fast other processes apply them."""

from __future__ import annotations

import base64
import datetime
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.harness import Harness, running_harness
from tests.fakes.http_connection import check_error
from tests.fakes.postgres import Postgres

MASTER_KEY = base64.b64encode(os.urandom(32)).decode()
CHAT = "/v1/chat/completions"
ASKED: dict[str, Any] = {
    "model": "gpt-5.4-mini",
    "messages": [{"role": "user", "content": "Hello"}],
}
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-5.4-mini","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":100,"completion_tokens":900,"total_tokens":1000}}'
)


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    data = tmp_path_factory.mktemp("keys") / "data"
    with running_harness(data, trusted_proxies="127.0.0.1") as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    module_harness.answer_with(lambda received: received.answer(ANSWER))
    return module_harness


def manage(gateway: Gateway, method: str, path: str, body: Any = None) -> Any:
    """Send one request to the platform API with the first management key."""
    received = urllib.request.Request(
        f"{gateway.url}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "authorization": f"Bearer {gateway.keys['admin_key']}",
            "x-organization-id": gateway.keys["organization_id"],
            "content-type": "application/json",
        },
    )
    with urllib.request.urlopen(received, timeout=10) as answer:
        return json.loads(answer.read() or b"null")


def issue(gateway: Gateway, **fields: Any) -> Any:
    return manage(gateway, "POST", "/api/api-keys", {"name": "service", **fields})


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_sdk_sees_permission_denied_with_the_code_of_each_scope(harness: Harness) -> None:
    limits: list[tuple[dict[str, Any], str]] = [
        ({"models": ["gpt-4*"]}, "model_out_of_scope"),
        ({"endpoints": ["embeddings"]}, "endpoint_out_of_scope"),
        ({"resources": ["helpdesk"]}, "API_KEY_RESOURCE_NOT_AUTHORIZED"),
        ({"networks": ["203.0.113.0/24"]}, "address_out_of_scope"),
    ]
    for fields, code in limits:
        client = harness.gateway.sdk(api_key=issue(harness.gateway, **fields)["key"], max_retries=0)
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.chat.completions.create(**ASKED)
        assert caught.value.code == code
        assert caught.value.type == "permission_error"
    assert harness.upstream.received == []


def test_key_of_some_networks_is_judged_by_the_address_that_the_proxy_names(
    harness: Harness,
) -> None:
    key = issue(harness.gateway, networks=["203.0.113.0/24", "2001:db8::/32"])["key"]
    for forwarded, status in [
        ("203.0.113.9", 200),
        ("::ffff:203.0.113.9", 200),
        ("1.2.3.4, 203.0.113.9", 200),
        ("[2001:db8::7]:4711", 200),
        ("203.0.113.9, 1.2.3.4", 403),
        ("203.0.113.9, nobody", 400),
        ("", 403),
    ]:
        headers = {**bearer(key), **({"x-forwarded-for": forwarded} if forwarded else {})}
        assert harness.post(CHAT, ASKED, headers).status == status, forwarded


def test_call_counts_for_the_project_that_its_header_names(harness: Harness) -> None:
    project = manage(harness.gateway, "POST", "/api/projects", {"name": "Second"})["id"]
    issued = issue(harness.gateway, projects=[project])
    for named, charged in ((None, issued["project_id"]), (project, project)):
        headers = {**bearer(issued["key"]), **({"x-headgate-project": named} if named else {})}
        assert harness.post(CHAT, ASKED, headers).status == 200
        assert harness.receipts.take_one().project_id == charged
        assert "x-headgate-project" not in harness.upstream.received[-1].headers
    refused = harness.post(CHAT, ASKED, {**bearer(issued["key"]), "x-headgate-project": "proj_x"})
    check_error(refused, 403, "project_out_of_scope", source="gateway")
    manage(harness.gateway, "DELETE", f"/api/projects/{project}")
    refused = harness.post(CHAT, ASKED, {**bearer(issued["key"]), "x-headgate-project": project})
    check_error(refused, 403, "project_out_of_scope", source="gateway")


def test_tokens_per_minute_are_those_that_were_used(harness: Harness) -> None:
    key = issue(harness.gateway, tokens_per_minute=2_000, requests_per_minute=100)["key"]
    first = harness.post(CHAT, {**ASKED, "max_tokens": 10}, bearer(key))
    assert first.headers["x-headgate-ratelimit-limit-tokens"] == "2000"
    assert first.headers["x-headgate-ratelimit-limit-requests"] == "100"
    assert first.headers["x-headgate-ratelimit-remaining-requests"] == "99"
    assert int(first.headers["x-headgate-ratelimit-remaining-tokens"]) > 1_900
    assert "x-ratelimit-limit-requests" not in first.headers, "that name is the provider's"
    second = harness.post(CHAT, {**ASKED, "max_tokens": 10}, bearer(key))
    assert 900 < int(second.headers["x-headgate-ratelimit-remaining-tokens"]) < 1_050
    statuses = [harness.post(CHAT, ASKED, bearer(key)).status for _ in range(2)]
    assert statuses[-1] == 429
    refused = harness.post(CHAT, ASKED, bearer(key))
    check_error(refused, 429, "rate_limited", source="gateway")
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-headgate-ratelimit-remaining-tokens"] == "0"
    assert refused.headers["x-ratelimit-limit-tokens"] == "2000"
    assert "tokens per minute" in refused.error["message"]


def test_both_tokens_of_a_rotated_key_call_until_it_is_revoked(harness: Harness) -> None:
    issued = issue(harness.gateway)
    path = f"/api/api-keys/{issued['id']}"
    rotated = manage(harness.gateway, "POST", f"{path}/rotate", {"overlap_seconds": 600})
    both = [bearer(issued["key"]), bearer(rotated["key"])]
    assert [harness.post(CHAT, ASKED, each).status for each in both] == [200, 200]
    assert {receipt.key_id for receipt in harness.receipts.take()} == {issued["id"]}
    manage(harness.gateway, "DELETE", path)
    assert [harness.post(CHAT, ASKED, each).status for each in both] == [401, 401]


@pytest.mark.parametrize("how", ["revoked", "disabled", "expired"])
def test_stream_of_a_key_that_is_revoked_is_cut_and_billed(harness: Harness, how: str) -> None:
    ended = threading.Event()

    def stream(received: Any) -> None:
        received.begin_stream()
        received.send_chunk(
            b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
        )
        ended.wait(20)

    harness.answer_with(stream)
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
    issued = issue(
        harness.gateway, **({"expires_at": soon.isoformat()} if how == "expired" else {})
    )
    client = harness.gateway.sdk(api_key=issued["key"], max_retries=0)
    path = f"/api/api-keys/{issued['id']}"
    try:
        with client.chat.completions.create(**ASKED, stream=True) as chunks:
            assert next(iter(chunks)).choices[0].delta.content == "Hi"
            if how == "revoked":
                manage(harness.gateway, "DELETE", path)
            elif how == "disabled":
                manage(harness.gateway, "PATCH", path, {"enabled": False})
            with pytest.raises(openai.APIError, match="was revoked, disabled or expired") as caught:
                list(chunks)
    finally:
        ended.set()
    assert caught.value.code == "invalid_api_key"
    receipt = harness.receipts.take_one()
    assert (receipt.outcome, receipt.error_code) == ("cancelled", "invalid_api_key")
    assert receipt.estimated


def test_first_management_key_is_the_operators(harness: Harness) -> None:
    shown = manage(harness.gateway, "GET", "/api/api-keys?kind=admin&search=first")["keys"]
    assert [key["permissions"] for key in shown] == [["*"]]


def call(gateway: Gateway, key: str) -> int:
    received = urllib.request.Request(f"{gateway.url}/v1/models", headers=bearer(key))
    try:
        with urllib.request.urlopen(received, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_key_that_one_process_revokes_is_refused_by_another_within_a_second(
    postgres: Postgres, tmp_path: Path
) -> None:
    """At once in the process that revoked it; by the poll of a quarter of a second in the other."""
    shared = {"database_url": postgres.create_database(), "master_key": MASTER_KEY}
    with (
        running_gateway(tmp_path / "first", **shared) as first,
        running_gateway(tmp_path / "second", **shared) as second,
    ):
        project = manage(first, "POST", "/api/projects", {"name": "Second"})["id"]
        removals: dict[str, tuple[str, str, Any]] = {
            "revoked": ("DELETE", "/api/api-keys/{id}", None),
            "disabled": ("PATCH", "/api/api-keys/{id}", {"enabled": False}),
            "rotated": ("POST", "/api/api-keys/{id}/rotate", {}),
            "archived": ("DELETE", f"/api/projects/{project}", None),
        }
        for name, (method, path, body) in removals.items():
            issued = issue(first, name=name, project_id=project)
            key = issued["key"]
            await_status(second, key, wanted_known=True)
            assert call(first, key) != 401
            manage(first, method, path.format(id=issued["id"]), body)
            assert call(first, key) == 401, name
            # Four times what is promised: this machine may be busy with other things.
            await_status(second, key, wanted_known=False)


def await_status(gateway: Gateway, key: str, *, wanted_known: bool) -> None:
    deadline = time.monotonic() + 4.0
    while (call(gateway, key) != 401) is not wanted_known:
        assert time.monotonic() < deadline
