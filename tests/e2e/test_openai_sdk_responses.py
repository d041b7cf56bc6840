"""The official Python SDK: responses, and the conversations that they live in."""

from __future__ import annotations

import base64
from typing import Any, cast

import openai
import pytest
from openai.types.responses import Response, ResponseCompletedEvent
from pydantic import BaseModel

from headgate.llm.usage import Usage
from tests.fakes.simulated_gateway import SimulatedGateway, usage_of_response

LABEL = "[Headgate simulator, not a model]"
MINI = "gpt-5.4-mini"
FUNCTION = {
    "type": "function",
    "name": "get_weather",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
SURFACES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "plain": ({}, {}),
    "instructions": ({"instructions": "Be brief."}, {}),
    "function": ({"tools": [FUNCTION]}, {}),
    "custom tool": ({"tools": [{"type": "custom", "name": "sql"}]}, {}),
    "web search": ({"tools": [{"type": "web_search"}]}, {"web_search_call": 1}),
    "reasoning": (
        {
            "reasoning": {"effort": "high", "summary": "auto"},
            "include": ["reasoning.encrypted_content"],
            "store": False,
        },
        {},
    ),
    "cut": ({"max_output_tokens": 20}, {}),
    "refusal": ({"input": "[refuse]"}, {}),
    "picture": (
        {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What is it?"},
                        {"type": "input_image", "image_url": "https://example.com/a.png"},
                    ],
                }
            ]
        },
        {},
    ),
    "cached": ({"input": "x" * 8000, "prompt_cache_key": "k"}, {}),
}
# By the price book: a web search costs a cent.
TOOL_NANO = {"web_search_call": 10_000_000}


def create(sdk: SimulatedGateway, **given: Any) -> Any:
    wanted: dict[str, Any] = {"model": MINI, "input": "Hello", **given}
    make: Any = sdk.client.responses.create
    return make(**wanted)


def price(usage: Usage) -> int:
    plain = usage.input_tokens - usage.cached_tokens
    tokens = plain * 750 + usage.cached_tokens * 75 + usage.output_tokens * 4500
    return tokens + sum(TOOL_NANO[name] * count for name, count in usage.tool_calls.items())


@pytest.mark.parametrize("surface", SURFACES)
def test_response_costs_the_same_whole_and_streamed(sdk: SimulatedGateway, surface: str) -> None:
    given, tool_calls = SURFACES[surface]
    whole: Response = create(sdk, **given)
    usage = usage_of_response(whole.usage, **tool_calls)
    receipt = sdk.check("responses", pricing="priced", usage=usage, cost_nano=price(usage))
    assert receipt.answer_id == whole.id
    events = list(create(sdk, **given, stream=True))
    streamed = sdk.check("responses", pricing="priced", usage=usage, cost_nano=price(usage))
    assert streamed.streamed
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.output_text == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"


def test_reasoning_comes_back_encrypted_and_summarized(sdk: SimulatedGateway) -> None:
    response: Response = create(sdk, **SURFACES["reasoning"][0])
    item = response.output[0]
    assert item.type == "reasoning"
    assert base64.b64decode(item.encrypted_content or "")
    assert item.summary[0].text
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens == 128
    again: Response = create(
        sdk,
        input=[*[each.model_dump() for each in response.output], {"role": "user", "content": "?"}],
    )
    assert again.output_text.startswith(LABEL)


def test_stream_helper_ends_in_the_final_response(sdk: SimulatedGateway) -> None:
    with sdk.client.responses.stream(model=MINI, input="Hello") as events:
        text = "".join(
            event.delta for event in events if event.type == "response.output_text.delta"
        )
        final = events.get_final_response()
    assert final.output_text == text == f"{LABEL} You said: Hello"
    assert sdk.receipts.take_one().streamed


class Answer(BaseModel):
    city: str
    degrees: int


def test_structured_output_is_parsed_into_its_class(sdk: SimulatedGateway) -> None:
    response = sdk.client.responses.parse(model=MINI, input="Weather?", text_format=Answer)
    assert isinstance(response.output_parsed, Answer)
    usage = usage_of_response(response.usage)
    sdk.check("responses", pricing="priced", usage=usage, cost_nano=price(usage))


def test_function_call_and_its_output(sdk: SimulatedGateway) -> None:
    response: Response = create(sdk, tools=[FUNCTION])
    call = next(item for item in response.output if item.type == "function_call")
    assert call.name == "get_weather"
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    again: Response = create(
        sdk, tools=[FUNCTION], previous_response_id=response.id, input=[output]
    )
    assert again.output_text.startswith(f"{LABEL} The tool has answered")
    assert len(sdk.receipts.take()) == 2


@pytest.mark.parametrize("streamed", [False, True])
def test_generated_picture_passes_and_only_its_own_charge_is_recorded_as_unpriced(
    sdk: SimulatedGateway, streamed: bool
) -> None:
    given = {"tools": [{"type": "image_generation"}], "input": "Draw an otter"}
    if streamed:
        response = list(create(sdk, **given, stream=True))[-1].response
    else:
        response = create(sdk, **given)
    picture = next(item for item in response.output if item.type == "image_generation_call")
    assert base64.b64decode(picture.result).startswith(b"\x89PNG")
    receipt = sdk.receipts.take_one()
    # Its own charge is in units that the price book does not have yet: never silently nothing.
    assert receipt.pricing == "partial"
    assert receipt.unpriced_reason == "no fee is known for image_generation_call"
    assert receipt.cost_nano > 0
    assert receipt.usage == usage_of_response(response.usage, image_generation_call=1)


def test_response_is_kept_read_and_deleted_for_free(sdk: SimulatedGateway) -> None:
    made: Response = create(sdk, input=[{"role": "user", "content": "Hello"}])
    sdk.receipts.take()
    responses = sdk.client.responses
    assert responses.retrieve(made.id).output_text == made.output_text
    assert [item.type for item in responses.input_items.list(made.id)] == ["message"]
    events = list(responses.retrieve(made.id, stream=True))
    assert isinstance(events[-1], ResponseCompletedEvent)
    rest = list(responses.retrieve(made.id, stream=True, starting_after=events[2].sequence_number))
    assert [event.sequence_number for event in rest] == [e.sequence_number for e in events[3:]]
    responses.delete(made.id)
    sdk.check_free("responses", calls=5)
    with pytest.raises(openai.NotFoundError):
        responses.retrieve(made.id)


def test_background_response_is_priced_when_it_is_fetched(sdk: SimulatedGateway) -> None:
    queued: Response = create(sdk, background=True)
    assert (queued.status, queued.usage) == ("queued", None)
    assert sdk.receipts.take() == []
    done = sdk.client.responses.retrieve(queued.id)
    assert (done.status, done.output_text) == ("completed", f"{LABEL} You said: Hello")
    usage = usage_of_response(done.usage)
    read, created = sorted(sdk.receipts.take(), key=lambda each: each.method)
    assert (created.pricing, created.usage, created.cost_nano) == ("priced", usage, price(usage))
    assert (read.pricing, read.cost_nano) == ("free", 0)
    sdk.client.responses.retrieve(queued.id)
    sdk.check_free("responses")


def test_background_response_is_cancelled(sdk: SimulatedGateway) -> None:
    queued: Response = create(sdk, background=True, input="Cancel me")
    assert sdk.client.responses.cancel(queued.id).status == "cancelled"
    (created,) = [each for each in sdk.receipts.take() if each.pricing != "free"]
    assert (created.outcome, created.estimated) == ("cancelled", True)
    assert created.cost_nano > 0


def test_input_is_counted_for_free(sdk: SimulatedGateway) -> None:
    counted = sdk.client.responses.input_tokens.count(model=MINI, input="Hello there")
    assert counted.input_tokens > 0
    sdk.check_free("responses")


def test_conversation_is_compacted_at_its_price(sdk: SimulatedGateway) -> None:
    compacted = sdk.client.responses.compact(model=MINI, input="A long story")
    assert compacted.output[-1].type == "compaction"
    usage = usage_of_response(compacted.usage)
    sdk.check("responses", pricing="priced", usage=usage, cost_nano=price(usage))


def test_unknown_response_is_the_providers_404(sdk: SimulatedGateway) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        sdk.client.responses.retrieve("resp_unknown")
    assert raised.value.response.headers["x-headgate-error-source"] == "provider"


def test_stream_that_fails_ends_in_the_providers_own_event(sdk: SimulatedGateway) -> None:
    events = list(create(sdk, model=f"{MINI}@fault:failed=4", stream=True))
    assert events[-1].type == "response.failed"
    receipt = sdk.receipts.take_one()
    assert (receipt.outcome, receipt.error_code) == ("upstream_error", "server_error")


def test_conversation_holds_items_and_responses(sdk: SimulatedGateway) -> None:
    conversations = sdk.client.conversations
    made = conversations.create(
        items=[{"type": "message", "role": "user", "content": "First"}], metadata={"topic": "a"}
    )
    assert conversations.retrieve(made.id).metadata == {"topic": "a"}
    updated = conversations.update(made.id, metadata={"topic": "b"})
    assert updated.metadata == {"topic": "b"}
    added = conversations.items.create(
        made.id, items=[{"type": "message", "role": "user", "content": "Second"}]
    )
    item_id = cast("Any", added.data[0]).id
    assert cast("Any", conversations.items.retrieve(item_id, conversation_id=made.id)).id == item_id
    assert len(list(conversations.items.list(made.id))) == 2
    conversations.items.delete(item_id, conversation_id=made.id)
    sdk.check_free("conversations", calls=7)
    response: Response = create(sdk, conversation=made.id)
    assert response.conversation is not None
    assert response.conversation.id == made.id
    assert sdk.receipts.take_one().pricing == "priced"
    assert len(list(conversations.items.list(made.id))) > 2
    assert conversations.delete(made.id).deleted
