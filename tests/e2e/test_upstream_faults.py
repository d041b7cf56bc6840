"""When a provider is called again, and what the client is told about waiting (law 9).

The faults themselves are in test_fault_matrix.py.
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Generator
from typing import Any

import openai
import pytest

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.server_database import ServerDatabase
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, Script, running_upstream
from tests.fakes.waiting import wait_until

DEADLINE_SECONDS = 0.5
TOTAL_SECONDS = 4.0
"""Longer than two waits between attempts."""
LATE_SECONDS = 1.0
"""How late a deadline may be noticed, on a busy machine."""
JITTER_SECONDS = 1.0
CHAT: dict[str, Any] = {"model": "gpt-5.4-mini", "messages": []}
ANSWER = (
    b'{"model":"gpt-5.4-mini","choices":[],'
    b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}'
)


@pytest.fixture(scope="module")
def upstream() -> Generator[FakeUpstream]:
    with running_upstream() as fake:
        yield fake


@pytest.fixture(scope="module")
def gateway(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway]:
    with running_gateway(
        tmp_path_factory.mktemp("faults") / "data",
        provider_url=upstream.base_url,
        connect_seconds=DEADLINE_SECONDS,
        first_byte_seconds=DEADLINE_SECONDS,
        idle_seconds=DEADLINE_SECONDS,
        total_seconds=TOTAL_SECONDS,
        retry_budget_floor_per_second=1000,
        breaker_failures=0,
    ) as running:
        yield running


@pytest.fixture
def server_database(gateway: Gateway) -> ServerDatabase:
    return ServerDatabase(gateway.data)


@pytest.fixture
def client(gateway: Gateway) -> Generator[RawClient]:
    with RawClient(gateway.port, gateway.key) as opened:
        yield opened


class Plan:
    """Answer by a list of steps, the last of which is repeated."""

    def __init__(self, *steps: Script) -> None:
        self.steps = list(steps)
        self.calls = 0

    def __call__(self, received: ReceivedRequest) -> None:
        self.calls += 1
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        step(received)


def good(received: ReceivedRequest) -> None:
    received.answer(ANSWER)


def refuse(
    status: int, body: bytes = b'{"error":{"message":"no","code":"boom"}}', /, **headers: str
) -> Script:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda received: received.answer(body, status=status, headers=given)


def error_of(body: bytes) -> dict[str, Any]:
    return json.loads(body)["error"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_refusal_is_tried_again_until_it_is_final(
    upstream: FakeUpstream, client: RawClient, server_database: ServerDatabase, status: int
) -> None:
    upstream.script = plan = Plan(refuse(status))
    client.ask(body=CHAT)
    assert client.read_head() == status
    assert client.headers["x-should-retry"] == "false"
    assert client.headers["x-headgate-error-source"] == "provider"
    assert client.headers["x-headgate-retries"] == "2"
    assert client.read_body() == b'{"error":{"message":"no","code":"boom"}}'
    assert plan.calls == 3
    receipt = server_database.receipts()[-1]
    assert (receipt["outcome"], receipt["status"]) == ("upstream_error", status)
    assert (receipt["attempts"], receipt["cost_nano"], receipt["estimated"]) == (3, 0, 0)


def test_answer_after_a_retry_is_billed_once(
    upstream: FakeUpstream, client: RawClient, server_database: ServerDatabase
) -> None:
    upstream.script = Plan(refuse(503), good)
    before = server_database.count()
    client.ask(body=CHAT)
    assert client.read_answer() == (200, ANSWER)
    assert client.headers["x-headgate-retries"] == "1"
    assert server_database.count() == before + 1
    assert server_database.receipts()[-1]["cost_nano"] == 1_200_000


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_refusal_of_the_request_is_passed_on_as_it_is(
    upstream: FakeUpstream, client: RawClient, status: int
) -> None:
    upstream.script = plan = Plan(refuse(status))
    client.ask(body=CHAT)
    assert client.read_head() == status
    assert "x-should-retry" not in client.headers
    assert client.read_body() == b'{"error":{"message":"no","code":"boom"}}'
    assert plan.calls == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "1"}, 1.0),
        ({"retry_after_ms": "300", "retry_after": "9"}, 0.3),
        ({"x_ratelimit_reset_requests": "120ms", "x_ratelimit_reset_tokens": "0.4s"}, 0.4),
        ({"retry_after": "soon"}, 0.0),
    ],
)
def test_short_wait_that_the_provider_asks_for_is_kept(
    upstream: FakeUpstream, client: RawClient, headers: dict[str, str], seconds: float
) -> None:
    upstream.script = Plan(refuse(429, **headers), good)
    started = time.monotonic()
    client.ask(body=CHAT)
    assert client.read_answer()[0] == 200
    assert seconds <= time.monotonic() - started < seconds + JITTER_SECONDS + LATE_SECONDS


def in_an_hour() -> str:
    return email.utils.formatdate(time.time() + 3600, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "told", "advice"),
    [
        ({"retry_after": "30"}, {"retry-after": "30"}, None),
        ({"retry_after": "7.5"}, {"retry-after": "7.5"}, None),
        ({"x_ratelimit_reset_tokens": "20s"}, {"retry-after": "20"}, None),
        ({"retry_after": "3600"}, {"retry-after": "3600"}, "false"),
        ({"retry_after": in_an_hour()}, {}, "false"),
        ({"retry_after_ms": "3600000"}, {"retry-after-ms": "3600000"}, "false"),
        ({"x_ratelimit_reset_tokens": "1m30s"}, {"retry-after": "90"}, "false"),
        ({"x_ratelimit_reset_tokens": "6m0s"}, {"retry-after": "360"}, "false"),
        ({"retry_after": "30", "x_ratelimit_reset_requests": "1m"}, {"retry-after": "60"}, None),
    ],
)
def test_long_wait_is_left_to_the_client_and_told_as_long_as_it_is(
    upstream: FakeUpstream,
    client: RawClient,
    headers: dict[str, str],
    told: dict[str, str],
    advice: str | None,
) -> None:
    """A wait longer than a client would accept is not worth a retry."""
    upstream.script = plan = Plan(refuse(429, **headers))
    client.ask(body=CHAT)
    assert client.read_head() == 429
    assert told.items() <= client.headers.items()
    assert client.headers.get("x-should-retry") == advice
    assert plan.calls == 1


def test_unreadable_retry_advice_becomes_the_longest_wait(
    upstream: FakeUpstream, client: RawClient
) -> None:
    upstream.script = Plan(refuse(400, retry_after="soon"))
    client.ask(body=CHAT)
    assert client.read_head() == 400
    assert client.headers["retry-after"] == "60"


def test_spent_quota_is_final(upstream: FakeUpstream, client: RawClient) -> None:
    body = b'{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}'
    upstream.script = plan = Plan(refuse(429, body))
    client.ask(body=CHAT)
    assert client.read_head() == 429
    assert client.headers["x-should-retry"] == "false"
    assert client.read_body() == body
    assert plan.calls == 1


def test_provider_advice_decides_about_retries(upstream: FakeUpstream, client: RawClient) -> None:
    upstream.script = plan = Plan(refuse(503, x_should_retry="false"), good)
    client.ask(body=CHAT)
    assert client.read_head() == 503
    assert client.headers["x-should-retry"] == "false"
    assert plan.calls == 1
    client.read_body()
    upstream.script = Plan(refuse(400, x_should_retry="true"), good)
    client.ask(body=CHAT)
    assert client.read_answer()[0] == 200


def is_known(client: RawClient) -> bool:
    """Return whether the key of this line is loaded; this request does not count."""
    client.ask("/v1/realtime")
    return client.read_answer()[0] != 401


def test_rate_limits_of_provider_and_gateway_are_distinguished(
    upstream: FakeUpstream, gateway: Gateway
) -> None:
    key = gateway.run("keys", "create", "--requests-per-minute", "1").stdout.strip()
    upstream.script = Plan(refuse(429, retry_after="30"))
    with RawClient(gateway.port, key) as client:
        wait_until(lambda: is_known(client))
        client.ask(body=CHAT)
        assert client.read_answer()[0] == 429
        assert client.headers["x-headgate-error-source"] == "provider"
        client.ask(body=CHAT)
        assert client.read_head() == 429
        assert client.headers["x-headgate-error-source"] == "gateway"
        assert 30 <= int(client.headers["retry-after"]) <= 60
        assert error_of(client.read_body())["code"] == "rate_limited"


@pytest.mark.parametrize("end", [ReceivedRequest.close, ReceivedRequest.reset])
def test_post_that_the_provider_has_read_is_not_sent_again(
    upstream: FakeUpstream, client: RawClient, server_database: ServerDatabase, end: Script
) -> None:
    """It closes a reused connection after it has read the call, and has perhaps done the work."""
    upstream.script = plan = Plan(good, end, good)
    client.ask(body=CHAT)
    assert client.read_answer()[0] == 200
    client.ask(body=CHAT, idempotency_key="once")
    assert client.read_head() == 502
    assert client.headers["x-should-retry"] == "false"
    assert client.headers["x-headgate-retries"] == "0"
    assert error_of(client.read_body())["code"] == "provider_invalid_response"
    assert plan.calls == 2
    receipt = server_database.receipts()[-1]
    assert (receipt["outcome"], receipt["attempts"], receipt["estimated"]) == ("unknown", 1, 1)


def test_safe_request_is_sent_again_and_each_attempt_is_counted(
    upstream: FakeUpstream, client: RawClient, server_database: ServerDatabase
) -> None:
    upstream.script = plan = Plan(good, ReceivedRequest.close, good)
    for retries in ("0", "1"):
        client.ask("/v1/files/file-1", method="GET")
        assert client.read_answer() == (200, ANSWER)
        assert client.headers["x-headgate-retries"] == retries
    assert plan.calls == 3
    assert server_database.receipts()[-1]["attempts"] == 2


@pytest.mark.parametrize("step", [refuse(503), ReceivedRequest.close])
def test_upload_that_streams_is_sent_once(
    upstream: FakeUpstream, gateway: Gateway, step: Script
) -> None:
    upstream.script = plan = Plan(step)
    with RawClient(gateway.port, gateway.key) as client:
        client.send(client.render("/v1/files", None, method="POST", content_length="100000"))
        wait_until(lambda: "headgate_requests_in_flight 2" in gateway.metrics())
        client.send(b"x" * 100_000)
        assert client.read_head() in (502, 503)
        assert plan.calls == 1


def test_official_sdk_adds_no_attempts_to_those_that_are_used_up(
    upstream: FakeUpstream, gateway: Gateway
) -> None:
    upstream.script = plan = Plan(refuse(503))
    client = gateway.sdk(max_retries=2)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="gpt-5.4-mini", messages=[])
    assert plan.calls == 3
