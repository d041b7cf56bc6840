"""K3: one idempotency key at two servers on one PostgreSQL, by the real SDK, across a kill."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from headgate.billing.service import ledger as billing
from headgate.kit.db.engine import Database
from headgate.kit.money import NANO_PER_DOLLAR
from tests.fakes.gateway import PROVIDER_KEY, Gateway, running_gateway
from tests.fakes.http_connection import ask
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream
from tests.fakes.waiting import wait_until

ASK: dict[str, Any] = {
    "model": "gpt-5.4-mini",
    "max_completion_tokens": 200,
    "messages": [{"role": "user", "content": "Hi"}],
}
COMPLETION = (
    b'{"id":"c1","object":"chat.completion","model":"gpt-5.4-mini","choices":[],'
    b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}'
)
COST_NANO = 1000 * 750 + 100 * 4500
FUNDED_NANO = 10 * NANO_PER_DOLLAR


@dataclass
class Servers:
    """Hold two servers on one database, with one managed credential and a funded wallet."""

    one: Gateway
    two: Gateway
    upstream: FakeUpstream
    url: str

    def ask(self, gateway: Gateway, key: str, **options: Any) -> Any:
        with openai.OpenAI(api_key=self.one.key, base_url=gateway.base_url, **options) as client:
            create: Any = client.chat.completions.create
            return create(**ASK, extra_headers={"Idempotency-Key": key}).to_dict()

    def read_spent(self) -> int:
        """Return what left the wallet, and is not held."""
        database = Database(self.url)
        try:
            with database.reading() as connection:
                assert billing.find_inconsistencies(connection) == []
                available = billing.read_available(connection, self.one.keys["organization_id"])
                assert billing.count_open_holds(connection) == 0
                return FUNDED_NANO - available
        finally:
            database.close()


@pytest.fixture
def servers(tmp_path: Path, postgres_url: str) -> Generator[Servers]:
    settings: dict[str, Any] = {
        "database_url": postgres_url,
        "master_key": base64.b64encode(os.urandom(32)).decode(),
        "breaker_failures": 0,
    }
    with (
        running_upstream() as upstream,
        running_gateway(tmp_path / "one", **settings) as one,
        running_gateway(tmp_path / "two", **settings) as two,
    ):
        added = one.run(
            *("credentials", "add", "openai", "--managed", "--api-key-stdin"),
            *("--base-url", upstream.base_url),
            stdin=PROVIDER_KEY,
        )
        assert added.returncode == 0, added.stderr
        database = Database(postgres_url)
        with database.transaction() as connection:
            organization_id = one.keys["organization_id"]
            billing.fund(
                connection, organization_id, amount_nano=FUNDED_NANO, reference="a", now=1.0
            )
        database.close()
        upstream.script = lambda received: received.answer(b'{"data":[]}')
        running = Servers(one, two, upstream, postgres_url)
        for gateway in (one, two):
            headers = {"authorization": f"Bearer {one.key}"}

            def is_ready(port: int = gateway.port, headers: dict[str, str] = headers) -> bool:
                return ask(port, "GET", "/v1/models", headers).status == 200

            wait_until(is_ready, 10)
        upstream.forget()
        yield running


def test_storm_of_the_sdk_at_two_servers_is_one_call_and_one_debit(servers: Servers) -> None:
    def answer_late(received: ReceivedRequest) -> None:
        time.sleep(2.0)
        received.answer(COMPLETION)

    servers.upstream.script = answer_late

    def send(gateway: Gateway) -> Any:
        return servers.ask(gateway, "storm", max_retries=20, timeout=1.0)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(send, [servers.one, servers.two] * 6))
    assert answers == [answers[0]] * 12
    assert len(servers.upstream.received) == 1
    assert servers.read_spent() == COST_NANO


@pytest.mark.prove
@pytest.mark.timeout(180)
def test_call_that_died_with_its_server_is_repeated_at_the_other_and_billed_once(
    servers: Servers,
) -> None:
    release = threading.Event()

    def answer_the_second(received: ReceivedRequest) -> None:
        if len(servers.upstream.received) == 1:
            release.wait(60)
            received.close()
            return
        received.answer(COMPLETION)

    servers.upstream.script = answer_the_second
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(servers.ask, servers.one, "cut", max_retries=0)
        wait_until(lambda: len(servers.upstream.received) == 1, 10)
        servers.one.kill()
        release.set()
        assert isinstance(cut.exception(30), openai.APIConnectionError)
    # Until the lease of the first run is over, for a minute, the other server answers 409.
    answers: list[Any] = []

    def is_answered() -> bool:
        try:
            answers.append(servers.ask(servers.two, "cut", max_retries=0))
        except openai.ConflictError:
            time.sleep(1)
        return bool(answers)

    wait_until(is_answered, 120)
    assert servers.ask(servers.two, "cut", max_retries=0) == answers[0]
    assert len(servers.upstream.received) == 2
    assert servers.read_spent() == COST_NANO
