"""Anthropic's official Python SDK, unchanged but for its base URL."""

from __future__ import annotations

import base64
from collections.abc import Generator
from typing import Any, cast

import anthropic
import pytest
from anthropic.types import Message

from tests.fakes.grammar.watching import watch_streams
from tests.fakes.simulated_gateway import SimulatedGateway
from tests.unit.llm.test_token_count import make_png

MINI = "gpt-5.4-mini"
CHAT = "gpt-4o"
LABEL = "[Headgate simulator, not a model]"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "name": "get_weather",
    "description": "Get the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
FORECAST = {
    "name": "get_current_weather",
    "description": "Get the current weather in a given location",
    "input_schema": {
        "type": "object",
        "properties": {
            "location": {
                "type": "string",
                "description": "The city and state, e.g. San Francisco, CA",
            },
            "unit": {
                "type": "string",
                "description": "The unit of temperature to return",
                "enum": ["celsius", "fahrenheit"],
            },
        },
        "required": ["location"],
    },
}
PNG = base64.b64encode(make_png(1_024, 1_024)).decode()


@pytest.fixture(scope="module")
def client(module_simulated_gateway: SimulatedGateway) -> Generator[anthropic.Anthropic]:
    gateway = module_simulated_gateway.gateway
    with anthropic.Anthropic(
        base_url=gateway.base_url.removesuffix("/v1"),
        api_key=gateway.key,
        max_retries=0,
        http_client=anthropic.DefaultHttpxClient(event_hooks={"response": [watch_streams]}),
    ) as client:
        yield client


def create(client: anthropic.Anthropic, **fields: Any) -> Message:
    wanted: dict[str, Any] = {"model": MINI, "max_tokens": 2_000, "messages": HELLO} | fields
    return cast("Message", client.messages.create(**wanted))


def stream(client: anthropic.Anthropic, **fields: Any) -> Message:
    wanted: dict[str, Any] = {"model": MINI, "max_tokens": 2_000, "messages": HELLO} | fields
    with client.messages.stream(**wanted) as events:
        for _ in events:
            pass
        return cast("Message", events.get_final_message())


SURFACES: dict[str, dict[str, Any]] = {
    "plain": {},
    "system": {"system": [{"type": "text", "text": "Be brief."}]},
    "chat model": {"model": CHAT, "extra_body": {"temperature": 0.3}},
    "tool": {"tools": [WEATHER]},
    "parallel tools": {
        "tools": [WEATHER, {**WEATHER, "name": "get_forecast"}],
        "tool_choice": {"type": "any"},
    },
    "thinking": {"thinking": {"type": "enabled", "budget_tokens": 1_500}},
    "web search": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    "cut": {"max_tokens": 20},
    "structured": {
        "output_config": {
            "format": {
                "type": "json_schema",
                "schema": {
                    "type": "object",
                    "properties": {"n": {"type": "integer"}},
                    "required": ["n"],
                    "additionalProperties": False,
                },
            }
        }
    },
}


@pytest.mark.parametrize("surface", SURFACES)
def test_message_is_the_same_whole_and_streamed_and_costs_the_same(
    client: anthropic.Anthropic, sdk: SimulatedGateway, surface: str
) -> None:
    whole = create(client, **SURFACES[surface])
    receipt = sdk.receipts.take_one()
    streamed = stream(client, **SURFACES[surface])
    again = sdk.receipts.take_one()
    dropped = {"parsed_output"}
    found = [block.model_dump(exclude=dropped, exclude_none=True) for block in streamed.content]
    expected = [block.model_dump(exclude=dropped, exclude_none=True) for block in whole.content]
    assert found == expected
    assert (streamed.stop_reason, streamed.model) == (whole.stop_reason, whole.model)
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert streamed.usage.input_tokens == whole.usage.input_tokens
    assert receipt.cost_nano == again.cost_nano > 0
    assert receipt.usage == again.usage
    assert (receipt.outcome, again.outcome) == ("completed", "completed")


def test_tool_loop_ends_in_a_text(client: anthropic.Anthropic) -> None:
    first = create(client, tools=[WEATHER])
    assert first.stop_reason == "tool_use"
    (use,) = [block for block in first.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "Sunny"}
    turns = [
        *HELLO,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    second = create(client, tools=[WEATHER], messages=turns)
    assert second.stop_reason == "end_turn"
    assert second.content[-1].type == "text"
    assert LABEL in second.content[-1].text


def test_stop_sequence_cuts_the_answer(client: anthropic.Anthropic, sdk: SimulatedGateway) -> None:
    for ask in (create, stream):
        message = ask(client, stop_sequences=["not a model"])
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "not a model")
        assert message.content[-1].type == "text"
        assert message.content[-1].text == "[Headgate simulator, "
        receipt = sdk.receipts.take_one()
        assert (receipt.outcome, receipt.cost_nano > 0) == ("completed", True)


def test_losses_are_listed_in_a_header(client: anthropic.Anthropic) -> None:
    answer = client.messages.with_raw_response.create(
        model=MINI, max_tokens=2_000, messages=HELLO, extra_body={"top_k": 4, "temperature": 0.5}
    )
    assert answer.headers["x-headgate-conversion-losses"] == "temperature;lost, top_k;lost"
    assert answer.headers["request-id"].startswith("req_")
    assert "x-headgate-cost" in answer.headers


def test_tokens_are_counted_without_a_provider(
    client: anthropic.Anthropic, sdk: SimulatedGateway
) -> None:
    """The examples are OpenAI's: its API counts 101 tokens for the first."""
    system = "You are a helpful assistant that can answer to questions about the weather."
    question: list[Any] = [{"role": "user", "content": "What's the weather like in San Francisco?"}]
    count = client.messages.count_tokens
    counted = count(model=CHAT, system=system, messages=question, tools=[cast("Any", FORECAST)])
    assert counted.input_tokens == 101
    picture = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PNG},
    }
    seen: list[Any] = [{"role": "user", "content": [picture]}]
    assert count(model=CHAT, messages=seen).input_tokens == 3 + 1 + 3 + 765
    for address in ("http://169.254.169.254/a", "https://127.0.0.1/x.png", "ftp://a.b/c"):
        picture["source"] = {"type": "url", "url": address}
        place = r"messages\.0\.content\.0\.source\.url: "
        with pytest.raises(anthropic.BadRequestError, match=place) as refused:
            count(model=CHAT, messages=seen)
        body = cast("Any", refused.value).body
        assert refused.value.response.headers["request-id"] == body["request_id"]
    with pytest.raises(anthropic.BadRequestError, match="messages: at least one"):
        count(model=CHAT, messages=[])
    assert sdk.receipts.take() == []


def test_models_are_listed_in_the_format_of_anthropic(client: anthropic.Anthropic) -> None:
    models = {each.id: each for each in client.models.list(limit=7)}
    assert {MINI, CHAT} <= models.keys()
    assert "text-embedding-3-small" not in models
    mini = models[MINI]
    assert (mini.display_name, mini.max_input_tokens, mini.max_tokens) == (
        "GPT 5.4 mini",
        400_000,
        128_000,
    )
    assert mini.lifecycle == "active"
    assert mini.capabilities is not None
    assert mini.capabilities.thinking.types.enabled.supported
    assert client.models.retrieve(MINI) == mini
    newest = list(models)
    page = client.models.list(limit=2, after_id=newest[2])
    assert ([each.id for each in page.data], page.has_more) == (newest[3:5], True)
    before = client.models.list(limit=2, before_id=newest[3])
    assert ([each.id for each in before.data], before.first_id) == (newest[1:3], newest[1])
    assert client.models.list(lifecycle=["retired"]).data == []
    with pytest.raises(anthropic.NotFoundError, match="nonexistent") as missing:
        client.models.retrieve("nonexistent")
    assert cast("Any", missing.value).body["type"] == "error"
    for fields, place in (({"limit": 0}, "limit: "), ({"after_id": "x"}, "after_id: ")):
        with pytest.raises(anthropic.BadRequestError, match=place):
            client.models.list(**cast("Any", fields))


def test_strict_call_is_refused_where_something_would_be_lost(client: anthropic.Anthropic) -> None:
    strict = {"x-headgate-conversion": "strict"}
    assert create(client, extra_headers=strict).stop_reason == "end_turn"
    with pytest.raises(anthropic.BadRequestError, match=r"lose: top_k \(lost\)\.") as refused:
        create(client, extra_headers=strict, extra_body={"top_k": 4})
    assert cast("Any", refused.value).body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.BadRequestError, match="the one value `strict`"):
        create(client, extra_headers={"x-headgate-conversion": "maybe"})


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens: "),
        ({"messages": []}, anthropic.BadRequestError, "messages: "),
        ({"model": "nonexistent-model"}, anthropic.NotFoundError, "nonexistent-model"),
        (
            {"tools": [{"type": "bash_20250124", "name": "bash"}]},
            anthropic.BadRequestError,
            "no counterpart",
        ),
    ],
)
def test_errors_are_those_of_anthropic(
    client: anthropic.Anthropic, fields: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as refused:
        create(client, **fields)
    body = cast("Any", refused.value).body
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message"}


def test_wrong_key_is_an_authentication_error(module_simulated_gateway: SimulatedGateway) -> None:
    gateway = module_simulated_gateway.gateway
    client = anthropic.Anthropic(
        base_url=gateway.base_url.removesuffix("/v1"), api_key="sk-ant-x", max_retries=0
    )
    with pytest.raises(anthropic.AuthenticationError):
        create(client)
