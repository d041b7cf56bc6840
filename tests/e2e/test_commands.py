"""The commands of an operator, against a running server."""

from __future__ import annotations

import json
import time
from collections.abc import Generator

import pytest

from tests.fakes.gateway import PROVIDER_KEY, Gateway, running_gateway
from tests.fakes.http_connection import HttpResponse, ask
from tests.fakes.upstream import FakeUpstream, running_upstream

OTHER_KEY = "sk-other-0123456789abcdefghijklmnop"
CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt-5.4-mini","messages":[]}'
COMPLETION = b'{"id":"c1","object":"chat.completion","model":"gpt-5.4-mini","choices":[]}'


@pytest.fixture(scope="module")
def provider() -> Generator[FakeUpstream]:
    with running_upstream() as running:
        running.script = lambda received: received.answer(COMPLETION)
        yield running


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway]:
    """Start a server that knows no provider yet."""
    with running_gateway(tmp_path_factory.mktemp("commands") / "data") as running:
        yield running


def call(gateway: Gateway, token: str, headers: dict[str, str] | None = None) -> HttpResponse:
    given = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    return ask(gateway.port, "POST", CHAT, {**given, **(headers or {})}, BODY)


def wait_for(gateway: Gateway, token: str, status: int, **headers: str) -> HttpResponse:
    """Wait, since a change by another process takes effect within a second."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    deadline = time.monotonic() + 1.0
    while (answered := call(gateway, token, given)).status != status:
        assert time.monotonic() < deadline, answered.body
    return answered


def run(gateway: Gateway, *arguments: str, stdin: str = "") -> str:
    done = gateway.run(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert PROVIDER_KEY not in done.stdout + done.stderr
    return done.stdout


def test_credential_is_added_tried_used_and_removed_while_the_server_runs(
    empty: Gateway, provider: FakeUpstream
) -> None:
    refused = call(empty, empty.key)
    assert refused.error["code"] == "credential_missing"
    assert "headgate credentials add openai" in refused.error["message"]

    base = ("--base-url", provider.base_url)
    added = run(
        empty, *("credentials", "add", "openai", "--api-key-stdin", *base), stdin=PROVIDER_KEY
    )
    assert "is sealed for" in added
    assert wait_for(empty, empty.key, 200).body == COMPLETION
    assert provider.received[-1].headers["authorization"] == f"Bearer {PROVIDER_KEY}"

    listed = json.loads(run(empty, "credentials", "list", "--json"))
    assert [(each["name"], each["hint"]) for each in listed] == [("OpenAI", "sk-…klmn")]
    assert PROVIDER_KEY not in run(empty, "credentials", "list")
    assert "accepts it" in run(empty, "credentials", "test", "OpenAI")

    named = run(
        empty,
        *("credentials", "add", "openai", "--api-key-stdin", "--name", "second", "--json", *base),
        stdin=OTHER_KEY,
    )
    wait_for(empty, empty.key, 200, x_headgate_credential="second")
    assert provider.received[-1].headers["authorization"] == f"Bearer {OTHER_KEY}"
    assert json.loads(named)["name"] == "second"

    run(empty, "credentials", "remove", "second")
    gone = wait_for(empty, empty.key, 400, x_headgate_credential="second")
    assert "second" in gone.error["message"]
    run(empty, "credentials", "remove", "OpenAI")
    wait_for(empty, empty.key, refused.status)


def test_credential_that_the_provider_refuses_fails_its_test(
    empty: Gateway, provider: FakeUpstream
) -> None:
    run(
        empty,
        *("credentials", "add", "openai", "--api-key-stdin", "--name", "bad"),
        *("--base-url", provider.base_url),
        stdin=PROVIDER_KEY,
    )
    said = json.dumps({"error": {"message": f"Incorrect API key provided: {PROVIDER_KEY}"}})
    before = provider.script
    provider.script = lambda received: received.answer(said.encode(), status=401)
    tried = empty.run("credentials", "test", "bad")
    provider.script = before
    assert tried.returncode == 1
    assert "401" in tried.stdout
    assert PROVIDER_KEY not in tried.stdout + tried.stderr
    run(empty, "credentials", "remove", "bad")


def test_key_is_created_used_listed_and_revoked_while_the_server_runs(empty: Gateway) -> None:
    token = run(empty, "keys", "create", "--name", "for a test").splitlines()[0]
    wait_for(empty, token, call(empty, empty.key).status)
    keys = json.loads(run(empty, "keys", "list", "--json"))
    (key,) = [each for each in keys if each["name"] == "for a test"]
    assert token not in json.dumps(keys)
    assert "revoked" in run(empty, "keys", "revoke", key["id"])
    refused = wait_for(empty, token, 401)
    assert "has been revoked" in refused.error["message"]
    assert call(empty, empty.key).status != 401


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("keys", "revoke", "key_unknown"), "There is no key"),
        (("keys", "create", "--expires", "yesterday"), "is not a time"),
        (("credentials", "add", "unknown", "--api-key-stdin"), "There is no integration"),
        (("credentials", "remove", "unknown"), "There is no credential"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    empty: Gateway, arguments: tuple[str, ...], told: str
) -> None:
    done = empty.run(*arguments, stdin=PROVIDER_KEY)
    assert done.returncode == 1
    assert done.stderr.startswith("headgate: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
