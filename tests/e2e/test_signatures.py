"""Signed requests: what is accepted, and that it is accepted once."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.harness import Harness, running_harness
from tests.fakes.http_connection import HttpResponse, ask, check_error
from tests.fakes.signing import make_signature
from tests.fakes.upstream import running_upstream
from tests.fakes.waiting import wait_until

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "Hi"}]})
COMPLETION = (
    b'{"id":"c1","model":"gpt-5.4-mini","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"hello"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}'
)
MASTER_KEY = base64.b64encode(os.urandom(32)).decode()
DOCUMENT = Path(__file__).parents[2] / "docs" / "signatures.md"


@dataclass
class SigningKey:
    """Hold a key that requires signatures, with its secret."""

    token: str
    secret: str
    key_id: str

    def post(
        self,
        gateway: Gateway,
        body: str = BODY,
        signature: dict[str, str] | None = None,
        target: str = CHAT,
    ) -> HttpResponse:
        signed = make_signature(self.secret, "POST", target, body.encode())
        headers = {
            "authorization": f"Bearer {self.token}",
            "content-type": "application/json",
            **(signed if signature is None else signature),
        }
        return ask(gateway.port, "POST", target, headers, body.encode())


def create_key(gateway: Gateway, *options: str) -> SigningKey:
    made = gateway.run("keys", "create", "--requires-signature", "--json", *options)
    assert made.returncode == 0, made.stderr
    issued = json.loads(made.stdout)
    return SigningKey(issued["token"], issued["signing_secret"], issued["key"]["id"])


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    with running_harness(tmp_path_factory.mktemp("signatures") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def key(module_harness: Harness) -> SigningKey:
    key = create_key(module_harness.gateway)
    wait_until(lambda: key.post(module_harness.gateway).status == 200, 5)
    return key


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    module_harness.answer_with(lambda received: received.answer(COMPLETION))
    return module_harness


def test_example_of_the_documentation_works(
    harness: Harness, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_SIGNING_SECRET", key.secret)
    monkeypatch.setenv("OPENAI_API_KEY", key.token)
    monkeypatch.setenv("OPENAI_BASE_URL", harness.gateway.base_url)
    block = re.search(r"```python\n(.+?)```", DOCUMENT.read_text(), re.DOTALL)
    assert block
    defined: dict[str, Any] = {}
    exec(block[1], defined)
    with defined["client"] as client:
        made = client.chat.completions.create(**json.loads(BODY))
        assert made.choices[0].message.content == "hello"
        client.models.list(extra_query={"a": "b c"})
    assert len(harness.upstream.received) == 2
    assert "x-headgate-signature" not in harness.upstream.received[0].headers


def test_unsigned_request_is_refused_before_anything_is_sent(
    harness: Harness, key: SigningKey
) -> None:
    refused = key.post(harness.gateway, signature={})
    check_error(refused, 401, "signature_required", source="gateway")
    assert refused.headers["x-should-retry"] == "false"
    assert not harness.upstream.received


def test_same_signature_is_accepted_once(harness: Harness, key: SigningKey) -> None:
    signature = make_signature(key.secret, "POST", CHAT, BODY.encode())
    assert key.post(harness.gateway, signature=signature).status == 200
    refused = key.post(harness.gateway, signature=signature)
    check_error(refused, 401, "nonce_reused", source="gateway")
    assert refused.headers["x-should-retry"] == "false"
    assert len(harness.upstream.received) == 1


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", CHAT, BODY),
        ("POST", "/v1/responses", BODY),
        ("POST", CHAT + "?a=1", BODY),
        ("POST", CHAT, BODY + " "),
    ],
)
def test_signature_of_another_request_is_refused(
    harness: Harness, key: SigningKey, method: str, target: str, body: str
) -> None:
    signature = make_signature(key.secret, method, target, body.encode())
    refused = key.post(harness.gateway, signature=signature)
    check_error(refused, 401, "invalid_signature", source="gateway")
    assert not harness.upstream.received


@pytest.mark.parametrize(
    "header",
    ["", "v1=", "t=1,nonce=0123456789abcdef,sha256=" + "0" * 64 + ",v1=" + "0" * 64, "x" * 9000],
)
def test_malformed_signature_is_refused(harness: Harness, key: SigningKey, header: str) -> None:
    refused = key.post(harness.gateway, signature={"x-headgate-signature": header})
    check_error(refused, 401, "invalid_signature", source="gateway")


@pytest.mark.parametrize(
    ("seconds", "status"), [(-295, 200), (295, 200), (-305, 401), (305, 401), (-(10**9), 401)]
)
def test_signature_is_accepted_within_the_window(
    harness: Harness, key: SigningKey, seconds: int, status: int
) -> None:
    at = time.time() + seconds
    signature = make_signature(key.secret, "POST", CHAT, BODY.encode(), at=at)
    answered = key.post(harness.gateway, signature=signature)
    assert answered.status == status
    if status == 401:
        check_error(answered, 401, "signature_expired", source="gateway")


def test_signature_of_a_key_without_a_secret_is_refused(harness: Harness) -> None:
    signature = make_signature("hg_sign_x", "POST", CHAT, BODY.encode())
    refused = harness.ask("POST", CHAT, signature, BODY.encode())
    check_error(refused, 401, "invalid_signature", source="gateway")
    assert harness.ask("POST", CHAT, {}, BODY.encode()).status == 200


def test_retry_with_a_new_nonce_gets_the_stored_answer(harness: Harness, key: SigningKey) -> None:
    answers: list[HttpResponse] = []
    for _ in range(2):
        signature = make_signature(key.secret, "POST", CHAT, BODY.encode())
        answers.append(
            key.post(harness.gateway, signature={**signature, "idempotency-key": "signed"})
        )
    assert answers[0].body == answers[1].body == COMPLETION
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert len(harness.upstream.received) == 1


def test_platform_operations_below_v1_need_the_signature_too(
    harness: Harness, key: SigningKey
) -> None:
    headers = {"authorization": f"Bearer {key.token}"}
    target = "/v1/budgets?limit=5"
    refused = ask(harness.gateway.port, "GET", target, headers)
    check_error(refused, 401, "signature_required", source="gateway")
    signed = {**headers, **make_signature(key.secret, "GET", target)}
    assert ask(harness.gateway.port, "GET", target, signed).status == 200
    again = ask(harness.gateway.port, "GET", target, signed)
    check_error(again, 401, "nonce_reused", source="gateway")


def test_altered_upload_is_never_complete(harness: Harness, key: SigningKey) -> None:
    harness.answer_with(lambda received: received.answer(b'{"id":"part_1"}'))
    target, large = "/v1/uploads/u1/parts", b"x" * 900_000

    def upload(body: bytes, signed_body: bytes) -> HttpResponse:
        headers = {
            "authorization": f"Bearer {key.token}",
            "content-type": "application/octet-stream",
            **make_signature(key.secret, "POST", target, signed_body),
        }
        return ask(harness.gateway.port, "POST", target, headers, body)

    assert upload(large, large).status == 200
    assert harness.upstream.received[0].body == large
    check_error(upload(large, large + b"y"), 401, "invalid_signature", source="gateway")
    assert large + b"y" not in [received.body for received in harness.upstream.received]


def test_rotated_secret_is_accepted_during_the_overlap(harness: Harness) -> None:
    old = create_key(harness.gateway)
    made = harness.gateway.run("keys", "signing-secret", old.key_id, "--overlap", "1h")
    assert made.returncode == 0, made.stderr
    new = SigningKey(old.token, made.stdout.strip(), old.key_id)
    wait_until(lambda: new.post(harness.gateway).status == 200, 5)
    assert old.post(harness.gateway).status == 200
    ended = harness.gateway.run("keys", "signing-secret", old.key_id)
    assert ended.returncode == 0, ended.stderr
    wait_until(lambda: new.post(harness.gateway).status == 401, 5)
    refused = harness.gateway.run("keys", "signing-secret", old.key_id, "--delete")
    assert "requires signatures" in refused.stderr
    assert harness.gateway.run("keys", "require-signature", old.key_id, "--off").returncode == 0
    assert harness.gateway.run("keys", "signing-secret", old.key_id, "--delete").returncode == 0
    wait_until(lambda: old.post(harness.gateway, signature={}).status == 200, 5)


def test_replay_is_refused_after_a_kill(tmp_path: Path) -> None:
    with running_upstream() as upstream:
        upstream.script = lambda received: received.answer(COMPLETION)
        data = tmp_path / "data"
        with running_gateway(data, provider_url=upstream.base_url) as gateway:
            key = create_key(gateway)
            wait_until(lambda: key.post(gateway).status == 200, 5)
            signature = make_signature(key.secret, "POST", CHAT, BODY.encode())
            assert key.post(gateway, signature=signature).status == 200
            gateway.kill()
        with running_gateway(data, provider_url=upstream.base_url) as gateway:
            check_error(
                key.post(gateway, signature=signature), 401, "nonce_reused", source="gateway"
            )
            assert key.post(gateway).status == 200


@pytest.mark.prove
def test_one_of_many_copies_at_two_servers_is_accepted(tmp_path: Path, postgres_url: str) -> None:
    """A9: the same nonce at two servers on one PostgreSQL, at the same time."""
    with running_upstream() as upstream:
        upstream.script = lambda received: received.answer(COMPLETION)
        given: dict[str, Any] = {
            "provider_url": upstream.base_url,
            "database_url": postgres_url,
            "master_key": MASTER_KEY,
        }
        with (
            running_gateway(tmp_path / "one", **given) as one,
            running_gateway(tmp_path / "two", **given) as two,
        ):
            key = create_key(one)
            wait_until(lambda: key.post(one).status == key.post(two).status == 200, 5)
            for _ in range(5):
                signature = make_signature(key.secret, "POST", CHAT, BODY.encode())

                def send(gateway: Gateway, signature: dict[str, str] = signature) -> int:
                    return key.post(gateway, signature=signature).status

                with ThreadPoolExecutor(16) as pool:
                    statuses = sorted(pool.map(send, [one, two] * 8))
                assert statuses == [200] + [401] * 15
