"""The breaker of a provider that is down opens, and everything else goes on (decision 0008)."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.harness import running_managed_harness
from tests.fakes.http_connection import check_error
from tests.fakes.raw_client import RawClient
from tests.fakes.server_database import ServerDatabase
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream
from tests.fakes.waiting import wait_until

FAILURES = 5
OPEN_SECONDS = 1.0
FAST_SECONDS = 0.5
"""For an answer that asks nobody, on a busy machine; a provider that hangs would take seconds."""
CHAT: dict[str, Any] = {"model": "gpt-5.4-mini", "messages": []}
ANSWER = (
    b'{"model":"gpt-5.4-mini","choices":[],'
    b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}'
)


class Provider:
    """Refuse while it is down, and record when it was called."""

    def __init__(self) -> None:
        self.is_down = True
        self.asked_at: list[float] = []

    def __call__(self, received: ReceivedRequest) -> None:
        self.asked_at.append(time.monotonic())
        if self.is_down:
            received.answer(b'{"error":{"message":"down"}}', status=503)
        else:
            received.answer(ANSWER)


@pytest.fixture(scope="module")
def two_providers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[tuple[Gateway, Provider]]:
    """Start a gateway whose own credential works, and one named `sick` whose provider is down."""
    data = tmp_path_factory.mktemp("breaker") / "data"
    with running_upstream() as upstream, gateway_of(upstream, data) as pair:
        yield pair


@contextmanager
def gateway_of(upstream: FakeUpstream, data: Path) -> Generator[tuple[Gateway, Provider]]:
    upstream.script = lambda received: received.answer(ANSWER)
    with (
        running_upstream() as dead,
        running_gateway(
            data,
            provider_url=upstream.base_url,
            breaker_failures=FAILURES,
            breaker_open_seconds=OPEN_SECONDS,
            retries_max=0,
        ) as gateway,
    ):
        dead.script = provider = Provider()
        added = gateway.run(
            *("credentials", "add", "openai", "--api-key-stdin", "--name", "sick"),
            *("--base-url", dead.base_url),
            stdin="sk-sick-0123456789abcdefghijklmno",
        )
        assert added.returncode == 0, added.stderr
        with RawClient(gateway.port, gateway.key) as client:
            wait_until(lambda: ask(client, "sick") != 400)
        yield gateway, provider


def ask(client: RawClient, credential: str = "environment") -> int:
    client.ask(body=CHAT, x_headgate_credential=credential)
    status, _ = client.read_answer()
    return status


def count(gateway: Gateway, name: str) -> float:
    found = re.search(rf"^headgate_{name} (\S+)", gateway.metrics(), re.MULTILINE)
    assert found
    return float(found[1])


def test_failing_provider_is_probed_and_another_unaffected(
    two_providers: tuple[Gateway, Provider],
) -> None:
    gateway, dead = two_providers
    dead.asked_at.clear()
    statuses: dict[str, list[int]] = {"sick": [], "environment": []}
    ends_at = time.monotonic() + 3 * OPEN_SECONDS

    def call(credential: str) -> None:
        with RawClient(gateway.port, gateway.key) as client:
            while time.monotonic() < ends_at:
                statuses[credential].append(ask(client, credential))

    threads = [threading.Thread(target=call, args=(name,)) for name in (*statuses, "sick")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = FAILURES + 1
    assert len(dead.asked_at) <= failed + (time.monotonic() - dead.asked_at[0]) / OPEN_SECONDS
    assert len(dead.asked_at) >= FAILURES, "it was tried whether it is back"
    assert len(statuses["sick"]) > 2 * len(dead.asked_at), "most calls did not wait for it"
    assert set(statuses["sick"]) == {503}
    assert set(statuses["environment"]) == {200}
    assert count(gateway, "breakers_open") == 1
    assert count(gateway, "breaker_openings_total") == 1
    assert "breaker.opened" in gateway.log.read_text()


def test_recovered_provider_is_found_by_one_probe(
    two_providers: tuple[Gateway, Provider],
) -> None:
    gateway, provider = two_providers
    provider.is_down = True
    with RawClient(gateway.port, gateway.key) as client:
        while count(gateway, "breakers_open") == 0:
            assert ask(client, "sick") == 503
        provider.is_down = False
        received = len(provider.asked_at)
        wait_until(lambda: ask(client, "sick") == 200)
        assert len(provider.asked_at) == received + 1
        assert [ask(client, "sick") for _ in range(10)] == [200] * 10
    assert count(gateway, "breakers_open") == 0


def test_open_breaker_error_has_the_wires_shape_and_costs_nothing(tmp_path: Path) -> None:
    """With a managed credential, no money is held for what is not sent."""
    with running_managed_harness(tmp_path / "data", breaker_failures=1, retries_max=0) as harness:
        funded = harness.gateway.run("wallet", "fund", "1", "--reference", "r")
        assert funded.returncode == 0, funded.stderr
        harness.answer_with(Provider())
        given = CHAT | {"max_completion_tokens": 10}
        assert harness.post("/v1/chat/completions", given).status == 503
        for path, body in (
            ("/v1/chat/completions", given),
            ("/v1/chat/completions", given | {"stream": True}),
            ("/v1/responses", {"model": "gpt-5.4-mini", "input": "hello", "stream": True}),
        ):
            started = time.monotonic()
            answered = harness.post(path, body)
            assert time.monotonic() - started < FAST_SECONDS
            check_error(answered, 503, "provider_circuit_open", source="gateway")
            assert answered.error["type"] == "server_error"
            assert "`openai`" in answered.error["message"]
            assert answered.headers["x-should-retry"] == "false"
            assert 0 < int(answered.headers["retry-after"]) <= 30
        assert len(harness.upstream.received) == 1
        receipts = harness.receipts.take()[1:]
        assert [receipt.outcome for receipt in receipts] == ["refused"] * 3
        assert {receipt.error_code for receipt in receipts} == {"provider_circuit_open"}
        assert sum(receipt.attempts + receipt.cost_nano for receipt in receipts) == 0
        holds = ServerDatabase(harness.gateway.data).read("SELECT state FROM holds")
        assert [hold["state"] for hold in holds] == ["released"], "of the call that was sent"
