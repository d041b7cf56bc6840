from __future__ import annotations

import json

from tests.fakes.gateway import PROVIDER_KEY, Gateway
from tests.fakes.upstream import FakeUpstream

COMPLETION = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-5.4-mini-2026-03-17",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100},"novel":[1, 2]}'
)


def test_official_sdk_gets_its_answer_with_the_exact_cost(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    upstream.script = lambda received: received.answer(COMPLETION)
    client = gateway.sdk()
    answer = client.chat.completions.with_raw_response.create(
        model="gpt-5.4-mini", messages=[{"role": "user", "content": "Hello"}]
    )
    assert answer.content == COMPLETION
    # 1,000 tokens at $0.75 and 100 at $4.50 for a million.
    assert answer.headers["x-headgate-cost"] == "0.001200000"
    (received,) = upstream.received
    assert received.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert received.target == "/v1/chat/completions"


def test_provider_gets_the_very_bytes_of_the_client(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    upstream.script = lambda received: received.answer(COMPLETION)
    client = gateway.sdk()
    body = '{ "model":"gpt-5.4-mini",  "messages":[], "future_field": {"a": [1.50, 1e2]}}'
    client.post(
        "/chat/completions", body=json.loads(body), cast_to=object, options={"max_retries": 0}
    )
    client._client.post(  # pyright: ignore[reportPrivateUsage]
        f"{gateway.base_url}/chat/completions",
        content=body.encode(),
        headers={"authorization": f"Bearer {gateway.key}", "content-type": "application/json"},
    )
    assert upstream.received[1].body == body.encode()
