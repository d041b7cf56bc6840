"""Which request headers reach the provider, and which response headers come back."""

from __future__ import annotations

import re
from collections.abc import Generator

import pytest

from headgate.kit.money import format_dollars
from tests.fakes.gateway import PROVIDER_KEY
from tests.fakes.harness import Harness, running_harness
from tests.fakes.raw_client import RawClient
from tests.fakes.upstream import ReceivedRequest

CHAT = "/v1/chat/completions"
USAGE = '"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}'
COMPLETION = b'{"id":"chatcmpl-1","model":"gpt-5.4-mini","choices":[],%b}' % USAGE.encode()


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    with running_harness(tmp_path_factory.mktemp("headers") / "data") as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    return module_harness


def test_headers_that_are_not_forbidden_reach_the_provider(harness: Harness) -> None:
    wanted = {
        "session-id": "s1",
        "x-session-affinity": "s2",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "openai-safety-identifier": "u1",
        "http-referer": "https://app.example",
        "x-title": "app",
        "x-custom": "anything",
        "openai-beta": "assistants=v2",
        "idempotency-key": "key-1",
        "openai-organization": "org-1",
        "openai-project": "proj_1",
        "x-client-request-id": "client-1",
        "x-stainless-lang": "python",
        "user-agent": "OpenAI/Python 3.52.0",
        "accept": "application/json",
        "content-type": "application/json",
    }
    harness.post(CHAT, COMPLETION, wanted)
    received = harness.upstream.received[0]
    assert {name: received.headers.get(name) for name in wanted} == wanted


def test_headers_of_the_client_and_its_proxies_are_not_forwarded(harness: Harness) -> None:
    hidden = {
        "cookie": "session=1",
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-host": "internal",
        "x-real-ip": "10.0.0.1",
        "forwarded": "for=10.0.0.1",
        "via": "1.1 proxy",
        "x-api-key": "other",
        "proxy-authorization": "Basic x",
        "x-headgate-credential": "environment",
        "x-headgate-correlation-id": "c-1",
        "api-key": "other",
        "x-vmx-user": "u",
        "cf-connecting-ip": "10.0.0.1",
        "connection": "keep-alive, x-hop",
        "x-hop": "for this hop only",
        "origin": "http://internal",
        "te": "trailers",
        "accept-encoding": "gzip, br",
    }
    harness.post(CHAT, b'{"model":"m"}', hidden)
    (received,) = harness.upstream.received
    assert not set(hidden) & set(received.headers)
    assert received.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert received.headers["host"] == f"127.0.0.1:{harness.upstream.port}"
    names = [name for name, _ in received.fields]
    assert len(names) == len(set(names))
    assert harness.gateway.key not in str(received.fields)


def test_rate_limit_and_version_headers_are_passed_on(harness: Harness) -> None:
    told = {
        "x-request-id": "req_upstream",
        "openai-version": "2020-10-01",
        "openai-processing-ms": "12",
        "openai-organization": "org-1",
        "x-ratelimit-remaining-tokens": "5",
        "x-ratelimit-reset-tokens": "6m0s",
        "cache-control": "no-store",
    }
    hidden = {
        "set-cookie": "__cf_bm=1",
        "server": "cloudflare",
        "cf-ray": "1",
        "alt-svc": "h3",
        "x-headgate-cost": "0",
        "x-headgate-error-source": "forged",
        "strict-transport-security": "max-age=1",
        "access-control-allow-origin": "*",
        "connection": "keep-alive",
        "keep-alive": "timeout=5",
    }
    harness.answer_with(lambda received: received.answer(COMPLETION, headers={**told, **hidden}))
    answered = harness.post(CHAT, b'{"model":"gpt-5.4-mini"}')
    assert {name: answered.headers.get(name) for name in told} == told
    assert not (set(hidden) - {"x-headgate-cost"}) & set(answered.headers)
    names = [name for name, _ in answered.fields]
    assert len(names) == len(set(names))


def test_answer_has_the_gateways_own_headers(harness: Harness) -> None:
    harness.answer_with(
        lambda received: received.answer(COMPLETION, headers={"x-request-id": "up-1"})
    )
    correlation = {"x-headgate-correlation-id": "order-7"}
    answered = harness.post(CHAT, b'{"model":"gpt-5.4-mini"}', correlation)
    receipt = harness.receipts.take_one()
    assert receipt.correlation_id == "order-7"
    own = {n: v for n, v in answered.headers.items() if n.startswith("x-headgate-")}
    assert own == {
        "x-headgate-request-id": receipt.request_id,
        "x-headgate-correlation-id": "order-7",
        "x-headgate-model": "gpt-5.4-mini",
        "x-headgate-provider": "openai",
        "x-headgate-credential-id": receipt.credential_id,
        "x-headgate-cost": format_dollars(receipt.cost_nano),
        "x-headgate-wallet-debit": "0.000000000",
        "x-headgate-input-tokens": "1000",
        "x-headgate-output-tokens": "100",
        "x-headgate-cache-status": "bypass",
        "x-headgate-retries": "0",
        "x-headgate-overhead-us": str(receipt.overhead_microseconds),
    }
    assert answered.headers["x-request-id"] == "up-1" == receipt.upstream_request_id


def answer_stream(received: ReceivedRequest) -> None:
    received.begin_stream()
    received.send_chunk(b'data: {"model":"gpt-5.4-mini","choices":[],%b}\n\n' % USAGE.encode())
    received.send_chunk(b"data: [DONE]\n\n")
    received.send_end()


@pytest.mark.parametrize(
    ("te", "version", "told"),
    [
        ("trailers", "1.1", True),
        ("gzip;q=0.5, Trailers;q=1", "1.1", True),
        ("gzip", "1.1", False),
        (None, "1.1", False),
        ("trailers", "1.0", False),
    ],
)
def test_stream_ends_in_its_cost_where_the_client_takes_trailers(
    harness: Harness, te: str | None, version: str, *, told: bool
) -> None:
    harness.answer_with(answer_stream)
    body = b'{"model":"gpt-5.4-mini","stream":true}'
    with RawClient(harness.gateway.port, harness.gateway.keys["inference_key"]) as client:
        given = {} if te is None else {"te": te, "connection": "te"}
        client.ask(CHAT, body, version=version, **given)
        assert client.read_head() == 200
        named = client.headers.get("trailer", "")
        if version == "1.0":
            assert client.reader.read().endswith(b"data: [DONE]\n\n")
            assert not named
            return
        while size := int(client.reader.readline(), 16):
            client.reader.read(size + 2)
        trailers: dict[str, str] = {}
        while row := client.reader.readline().rstrip(b"\r\n"):
            name, _, value = row.decode().partition(": ")
            trailers[name] = value
    receipt = harness.receipts.take_one()
    expected = {
        "x-headgate-cost": format_dollars(receipt.cost_nano),
        "x-headgate-wallet-debit": "0.000000000",
        "x-headgate-input-tokens": "1000",
        "x-headgate-output-tokens": "100",
        "x-headgate-overhead-us": str(receipt.overhead_microseconds),
    }
    assert trailers == (expected if told else {})
    assert set(trailers) <= set(named.split(", "))


def test_stream_disables_buffering_of_proxies_in_front(harness: Harness) -> None:
    def stream(received: ReceivedRequest) -> None:
        received.begin_stream()
        received.send_chunk(b"data: [DONE]\n\n")
        received.send_end()

    harness.answer_with(stream)
    answered = harness.post(CHAT, b'{"model":"gpt-5.4-mini","stream":true}')
    assert [value for name, value in answered.fields if name == "x-accel-buffering"] == ["no"]


def test_stream_says_what_is_known_when_it_begins(harness: Harness) -> None:
    def stream(received: ReceivedRequest) -> None:
        received.begin_stream()
        received.send_chunk(b"data: [DONE]\n\n")
        received.send_end()

    harness.answer_with(stream)
    answered = harness.post(CHAT, b'{"model":"gpt-5.4-mini","stream":true}')
    own = {n for n in answered.headers if n.startswith("x-headgate-")}
    assert own == {
        "x-headgate-request-id",
        "x-headgate-model",
        "x-headgate-provider",
        "x-headgate-credential-id",
        "x-headgate-cache-status",
        "x-headgate-retries",
    }


def test_request_id_is_the_gateways_where_the_provider_gives_none(harness: Harness) -> None:
    answered = harness.post(CHAT, b'{"model":"m"}')
    assert answered.headers["x-request-id"] == answered.headers["x-headgate-request-id"]
    assert re.fullmatch(r"req_[0-9a-f]{32}", answered.headers["x-request-id"])


@pytest.mark.parametrize("value", ["a b", "a\tb", "é", "x" * 129, ""])
def test_correlation_id_that_is_no_plain_word_is_dropped(harness: Harness, value: str) -> None:
    answered = harness.post(CHAT, b'{"model":"m"}', {"x-headgate-correlation-id": value})
    assert answered.status == 200
    assert "x-headgate-correlation-id" not in answered.headers
    assert harness.receipts.take_one().correlation_id is None


@pytest.mark.parametrize("line_break", ["\r\n", "\n", "\r"])
def test_correlation_id_cannot_write_headers(harness: Harness, line_break: str) -> None:
    value = f"a{line_break}set-cookie: a=b"
    answered = harness.post(CHAT, b'{"model":"m"}', {"x-headgate-correlation-id": value})
    assert "set-cookie" not in answered.headers


def test_refusal_carries_the_correlation_id_too(harness: Harness) -> None:
    answered = harness.post(CHAT, b"{", {"x-headgate-correlation-id": "order-7"})
    assert answered.headers["x-headgate-correlation-id"] == "order-7"


def test_named_credential_is_used_or_the_call_fails(harness: Harness) -> None:
    answered = harness.post(CHAT, b'{"model":"m"}', {"x-headgate-credential": "environment"})
    assert answered.status == 200
    answered = harness.post(CHAT, b'{"model":"m"}', {"x-headgate-credential": "another"})
    assert answered.headers["x-headgate-error-source"] == "gateway"
    assert "another" in answered.error["message"]
    assert len(harness.upstream.received) == 1


def test_organization_of_the_credential_counts_not_the_clients(harness: Harness) -> None:
    added = harness.gateway.run(
        *("credentials", "add", "openai", "--api-key-stdin", "--name", "with-organization"),
        *("--provider-organization", "org-own", "--base-url", harness.upstream.base_url),
        stdin=PROVIDER_KEY,
    )
    assert added.returncode == 0, added.stderr
    headers = {"x-headgate-credential": "with-organization", "openai-organization": "org-client"}
    wait_until_known(harness, headers)
    organizations = [
        value
        for name, value in harness.upstream.received[-1].fields
        if name == "openai-organization"
    ]
    assert organizations == ["org-own"]


def wait_until_known(harness: Harness, headers: dict[str, str]) -> None:
    """Wait, since a change by another process takes effect within the polling interval."""
    for _ in range(1000):
        if harness.post(CHAT, b'{"model":"m"}', headers).status == 200:
            return
    raise AssertionError("the credential was not taken up")
