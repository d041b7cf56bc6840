"""A key that floods the gateway, and another key whose calls must still be answered."""

from __future__ import annotations

import json
import select
import threading
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.upstream import FakeUpstream, ReceivedRequest
from tests.fakes.waiting import wait_until

PLACES = 20
CHAT = b'{"model":"gpt-5.4-mini","messages":[]}'


@pytest.fixture
def gateway(upstream: FakeUpstream, tmp_path: Path) -> Generator[Gateway]:
    with running_gateway(
        tmp_path / "data", provider_url=upstream.base_url, requests_in_flight_max=PLACES
    ) as running:
        yield running


def create_key(gateway: Gateway) -> str:
    created = gateway.run("keys", "create", "--name", "other", "--json")
    assert created.returncode == 0, created.stderr
    token: str = json.loads(created.stdout)["token"]
    wait_until(lambda: is_known(gateway, token))
    return token


def is_known(gateway: Gateway, token: str) -> bool:
    """Return whether the running server has loaded the key."""
    with RawClient(gateway.port, token) as client:
        client.ask("/v1/models")
        return client.read_answer()[0] == 200


def flood(gateway: Gateway, calls: int) -> list[RawClient]:
    clients = [RawClient(gateway.port, gateway.key) for _ in range(calls)]
    for client in clients:
        client.ask(body=CHAT)
    return clients


def count_answered(clients: list[RawClient]) -> int:
    readable, _, _ = select.select([client.socket for client in clients], [], [], 0)
    return len(readable)


def read_outcome(client: RawClient) -> tuple[int, str | None, str | None]:
    """Return status, `retry-after` and error code of an answer; close the connection."""
    with client:
        status, body = client.read_answer()
    code = json.loads(body)["error"]["code"] if status != 200 else None
    return status, client.headers.get("retry-after"), code


def test_flood_of_one_key_leaves_places_for_another(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    other, go_on = create_key(gateway), threading.Event()

    def answer(received: ReceivedRequest) -> None:
        if b"hurry" not in received.body:
            go_on.wait(30)
        received.answer(b'{"id":"x"}')

    upstream.script = answer
    clients = flood(gateway, 2 * PLACES)
    refused = 2 * PLACES - PLACES * 4 // 5
    wait_until(lambda: count_answered(clients) == refused, 10)
    with RawClient(gateway.port, other) as client:
        for _ in range(50):
            client.ask(body=b'{"model":"gpt-5.4-mini","messages":[],"user":"hurry"}')
            assert client.read_answer()[0] == 200
    go_on.set()
    answers = Counter(read_outcome(client) for client in clients)
    assert answers == {
        (200, None, None): 2 * PLACES - refused,
        (429, "1", "too_many_calls_in_flight"): refused,
    }
