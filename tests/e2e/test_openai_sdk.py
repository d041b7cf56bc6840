"""The official Python SDK, unchanged but for its base URL: chat, completions, models, errors."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, cast

import openai
import pytest
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessageFunctionToolCall,
)
from pydantic import BaseModel

from headgate.llm.usage import Usage
from tests.fakes.simulated_gateway import SimulatedGateway, usage_of_chat

CHAT = "chat.completions"
REJECTED = "provider_rejected_credential"
LABEL = "[Headgate simulator, not a model]"
MINI = "gpt-5.4-mini"
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": WEATHER}}
    for name in ("get_weather", "get_forecast")
]
SOUND = {"type": "input_audio", "input_audio": {"data": "A" * 4000, "format": "wav"}}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def says(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": parts[0] if isinstance(parts[0], str) else list(parts)}]


HELLO = says("Hello")
TEXT = {"type": "text", "text": "What is this?"}
SURFACES: dict[str, dict[str, Any]] = {
    "plain": {},
    "several": {"n": 3},
    "tool": {"tools": TOOLS[:1]},
    "parallel tools": {"tools": TOOLS, "messages": says("both in parallel")},
    "custom tool": {"tools": [{"type": "custom", "custom": {"name": "sql"}}]},
    "json object": {"response_format": {"type": "json_object"}},
    "refusal": {"messages": says("[refuse] this")},
    "cut": {"max_completion_tokens": 6},
    "reasoning": {"reasoning_effort": "high"},
    "picture": {"messages": says(TEXT, PICTURE), "model": "gpt-4o"},
    "sound in": {"messages": says(TEXT, SOUND), "model": "gpt-audio"},
    "sound out": {
        "model": "gpt-audio",
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"},
    },
    "prediction": {
        "model": "gpt-4o",
        "prediction": {"type": "content", "content": "You said: nothing that comes true"},
    },
    "cached": {"prompt_cache_key": "k", "messages": says("x" * 8000)},
    "search": {"model": "gpt-4o", "web_search_options": {}},
    "probabilities": {"model": "gpt-4o", "logprobs": True, "top_logprobs": 2},
    "unicode": {"messages": says("žluťoučký kůň 🐎 \u2028\u0000")},
}
# Nano-dollars for a token: text in, cached, audio in, text out, audio out.
RATES = {
    MINI: (750, 75, 0, 4500, 0),
    "gpt-4o": (2500, 1250, 0, 10_000, 0),
    "gpt-audio": (2500, 2500, 32_000, 10_000, 64_000),
}


def price(model: str, usage: Usage) -> int:
    text_in, cached, audio_in, text_out, audio_out = RATES[model]
    plain_in = usage.input_tokens - usage.cached_tokens - usage.input_audio_tokens
    plain_out = usage.output_tokens - usage.output_audio_tokens
    return (
        plain_in * text_in
        + usage.cached_tokens * cached
        + usage.input_audio_tokens * audio_in
        + plain_out * text_out
        + usage.output_audio_tokens * audio_out
    )


def chat(sdk: SimulatedGateway, **given: Any) -> ChatCompletion:
    wanted: dict[str, Any] = {"model": MINI, "messages": HELLO, **given}
    return cast("ChatCompletion", chat_any(sdk, wanted))


def stream(sdk: SimulatedGateway, **given: Any) -> list[ChatCompletionChunk]:
    wanted: dict[str, Any] = {"model": MINI, "messages": HELLO, **given, "stream": True}
    return list(cast("openai.Stream[ChatCompletionChunk]", chat_any(sdk, wanted)))


def chat_any(sdk: SimulatedGateway, wanted: dict[str, Any]) -> Any:
    create: Any = sdk.client.chat.completions.create
    return create(**wanted)


@pytest.mark.parametrize("surface", SURFACES)
def test_chat_is_recorded_with_its_usage_at_its_price(sdk: SimulatedGateway, surface: str) -> None:
    answer = chat(sdk, **SURFACES[surface])
    model = SURFACES[surface].get("model", MINI)
    usage = usage_of_chat(answer.usage)
    cost = price(model, usage)
    receipt = sdk.check(CHAT, pricing="priced", usage=usage, cost_nano=cost)
    assert cost > 0
    assert (receipt.model_requested, receipt.model_served) == (model, model)
    assert receipt.answer_id == answer.id
    assert receipt.key_id.removeprefix("key_") in sdk.gateway.key
    assert not receipt.streamed
    assert not receipt.managed


@pytest.mark.parametrize("asks_usage", [False, True])
@pytest.mark.parametrize("surface", SURFACES)
def test_streamed_chat_costs_what_its_buffered_twin_costs(
    sdk: SimulatedGateway, surface: str, asks_usage: bool
) -> None:
    buffered = chat(sdk, **SURFACES[surface])
    whole = sdk.receipts.take_one()
    options = {"stream_options": {"include_usage": True}} if asks_usage else {}
    chunks = stream(sdk, **SURFACES[surface], **options)
    streamed = sdk.receipts.take_one()
    assert streamed.streamed
    assert (streamed.usage, streamed.cost_nano) == (whole.usage, whole.cost_nano)
    assert streamed.answer_id == buffered.id == chunks[0].id
    # The gateway always asks for the usage; the client sees it if it asked (decision 8).
    bare = [chunk for chunk in chunks if not chunk.choices]
    assert len(bare) == asks_usage
    assert any(chunk.usage for chunk in chunks) == asks_usage
    for choice in buffered.choices:
        deltas = [c.delta for chunk in chunks for c in chunk.choices if c.index == choice.index]
        said = "".join(delta.content or "" for delta in deltas)
        assert said == (choice.message.content or "")
        refused = "".join(delta.refusal or "" for delta in deltas)
        assert refused == (choice.message.refusal or "")


def test_parallel_tool_calls_arrive_whole(sdk: SimulatedGateway) -> None:
    answer = chat(sdk, **SURFACES["parallel tools"])
    calls = cast(
        "list[ChatCompletionMessageFunctionToolCall]", answer.choices[0].message.tool_calls
    )
    assert [call.function.name for call in calls] == ["get_weather", "get_forecast"]
    told: list[Any] = [
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in calls
    ]
    said: Any = answer.choices[0].message.model_dump(exclude_none=True)
    follow_up = chat(sdk, tools=TOOLS, messages=[*says("both in parallel"), said, *told])
    assert (follow_up.choices[0].message.content or "").startswith(f"{LABEL} The tool has answered")
    assert len(sdk.receipts.take()) == 2


class Step(BaseModel):
    explanation: str
    output: str


class Solution(BaseModel):
    steps: list[Step]
    final_answer: int


def test_structured_output_is_parsed_into_its_class(sdk: SimulatedGateway) -> None:
    answer = sdk.client.chat.completions.parse(
        model=MINI, messages=says("Solve 8x + 7 = -23"), response_format=Solution
    )
    assert isinstance(answer.choices[0].message.parsed, Solution)
    usage = usage_of_chat(answer.usage)
    sdk.check(CHAT, pricing="priced", usage=usage, cost_nano=price(MINI, usage))


def test_refusal_of_structured_output_is_told_as_one(sdk: SimulatedGateway) -> None:
    answer = sdk.client.chat.completions.parse(
        model=MINI, messages=says("[refuse]"), response_format=Solution
    )
    assert answer.choices[0].message.parsed is None
    assert "can't help" in (answer.choices[0].message.refusal or "")
    assert sdk.receipts.take_one().pricing == "priced"


def test_stream_helper_accumulates_the_answer(sdk: SimulatedGateway) -> None:
    with sdk.client.chat.completions.stream(
        model=MINI, messages=HELLO, stream_options={"include_usage": True}
    ) as events:
        kinds = {event.type for event in events}
        final = events.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == f"{LABEL} You said: Hello"
    usage = usage_of_chat(final.usage)
    sdk.check(CHAT, pricing="priced", usage=usage, cost_nano=price(MINI, usage))


def test_stream_helper_parses_while_it_streams(sdk: SimulatedGateway) -> None:
    with sdk.client.chat.completions.stream(
        model=MINI, messages=HELLO, response_format=Solution
    ) as events:
        final = events.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Solution)
    assert sdk.receipts.take_one().streamed


def test_audio_comes_back_unchanged(sdk: SimulatedGateway) -> None:
    answer = chat(sdk, **SURFACES["sound out"])
    audio = answer.choices[0].message.audio
    assert audio is not None
    assert base64.b64decode(audio.data).startswith(b"RIFF")
    assert audio.transcript.startswith(LABEL)
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.audio_tokens


def test_citations_of_a_search_come_back(sdk: SimulatedGateway) -> None:
    message = chat(sdk, **SURFACES["search"]).choices[0].message
    assert message.annotations
    cited = message.annotations[0].url_citation
    assert (message.content or "")[cited.start_index : cited.end_index].startswith("(")


def test_answer_carries_what_the_gateway_knows(sdk: SimulatedGateway) -> None:
    raw = sdk.client.chat.completions.with_raw_response.create(model=MINI, messages=HELLO)
    receipt = sdk.receipts.take_one()
    headers = raw.headers
    assert headers["x-headgate-request-id"] == receipt.request_id
    assert headers["x-request-id"] == receipt.upstream_request_id
    assert headers["x-headgate-model"] == MINI
    assert headers["x-headgate-provider"] == "openai"
    assert headers["x-headgate-credential-id"] == receipt.credential_id
    assert headers["x-headgate-cache-status"] == "bypass"
    assert headers["x-headgate-retries"] == "0"
    whole, fraction = headers["x-headgate-cost"].split(".")
    assert int(whole + fraction) == receipt.cost_nano
    assert int(headers["x-headgate-overhead-us"]) == receipt.overhead_microseconds
    assert headers["openai-version"]
    assert headers["x-ratelimit-remaining-tokens"]


def test_stored_chats_are_managed_for_free(sdk: SimulatedGateway) -> None:
    made = chat(sdk, store=True, metadata={"topic": "a"})
    sdk.receipts.take()
    chats = sdk.client.chat.completions
    assert chats.retrieve(made.id).id == made.id
    assert made.id in [each.id for each in chats.list()]
    assert chats.update(made.id, metadata={"topic": "b"}).metadata == {"topic": "b"}
    assert [each.content for each in chats.messages.list(made.id)] == ["Hello"]
    assert chats.delete(made.id).deleted
    sdk.check_free("chat.completions.stored", calls=5)


@pytest.mark.parametrize("streamed", [False, True])
def test_completions_cost_the_same_in_both_forms(sdk: SimulatedGateway, streamed: bool) -> None:
    model = "gpt-3.5-turbo-instruct"
    wanted: dict[str, Any] = {"model": model, "prompt": ["one", "two"], "n": 2, "max_tokens": 9}
    create: Any = sdk.client.completions.create
    answer = create(**wanted)
    usage = usage_of_chat(answer.usage)
    cost = usage.input_tokens * 1500 + usage.output_tokens * 2000
    sdk.check("completions", pricing="priced", usage=usage, cost_nano=cost)
    if streamed:
        chunks = list(create(**wanted, stream=True))
        assert not any(chunk.usage for chunk in chunks)
        text = "".join(c.text for chunk in chunks for c in chunk.choices if c.index == 3)
        assert text == answer.choices[3].text
        sdk.check("completions", pricing="priced", usage=usage, cost_nano=cost)


def test_models_are_listed_and_read_for_free(sdk: SimulatedGateway) -> None:
    listed = [model.id for model in sdk.client.models.list()]
    assert {MINI, "gpt-4o", "whisper-1"} <= set(listed)
    assert sdk.client.models.retrieve(MINI).id == MINI
    sdk.check_free("models", calls=2)


@pytest.mark.parametrize(
    ("given", "error", "code"),
    [
        ({"model": "nonexistent"}, openai.NotFoundError, "model_not_found"),
        ({"messages": []}, openai.BadRequestError, "invalid_value"),
        ({"model": f"{MINI}@fault:quota"}, openai.RateLimitError, "insufficient_quota"),
        ({"model": f"{MINI}@fault:status=401"}, openai.AuthenticationError, REJECTED),
        ({"model": f"{MINI}@fault:status=403"}, openai.PermissionDeniedError, REJECTED),
    ],
)
def test_refusal_of_the_provider_is_raised_and_costs_nothing(
    sdk: SimulatedGateway, given: dict[str, Any], error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as raised:
        chat(sdk, **given)
    assert raised.value.code == code
    assert raised.value.response.headers["x-headgate-error-source"] == "provider"
    receipt = sdk.receipts.take_one()
    assert (receipt.outcome, receipt.pricing, receipt.cost_nano) == ("upstream_error", "free", 0)
    assert receipt.status == raised.value.status_code
    assert receipt.error_code == raised.value.code


@pytest.mark.anyio
async def test_asynchronous_client_gets_several_answers_at_once(sdk: SimulatedGateway) -> None:
    async with openai.AsyncOpenAI(api_key=sdk.gateway.key, base_url=sdk.gateway.base_url) as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model=MINI, messages=says(str(n))) for n in range(20))
        )
    assert [a.choices[0].message.content for a in answers] == [
        f"{LABEL} You said: {n}" for n in range(20)
    ]
    assert {each.answer_id for each in sdk.receipts.take()} == {answer.id for answer in answers}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
