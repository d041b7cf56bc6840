from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from headgate_simulator import responses, stored_responses
from headgate_simulator.memory import Memory
from headgate_simulator.messages import ApiRequest, ApiResponse
from headgate_simulator.seed import Seed
from headgate_simulator.settings import SimulatorSettings

URL = "/v1/responses"
EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CASES: dict[str, dict[str, Any]] = {
    "text": {},
    "reasoning": {
        "model": "gpt-5.4",
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    },
    "function": {
        "tools": [{"type": "function", "name": "w", "parameters": CITY, "strict": True}],
    },
    "parallel": {
        "input": "in parallel",
        "tools": [
            {"type": "function", "name": name, "parameters": CITY, "strict": True} for name in "ab"
        ],
    },
    "custom": {"tools": [{"type": "custom", "name": "sql"}]},
    "structured": {"text": {"format": {"type": "json_schema", "name": "c", "schema": CITY}}},
    "refusal": {"input": "[refuse] now"},
    "web": {"tools": [{"type": "web_search"}]},
    "files": {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
    "image": {"tools": [{"type": "image_generation"}]},
    "code": {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
    "cut": {"max_output_tokens": 6},
    "queued": {"background": True},
}
HOSTED = {
    "web": "web_search_call",
    "files": "file_search_call",
    "image": "image_generation_call",
    "code": "code_interpreter_call",
}


def body(**extra: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "input": "What is the weather?", **extra}


def ask(http: httpx2.Client, **extra: Any) -> dict[str, Any]:
    response = http.post(URL, json=body(**extra))
    assert response.status_code == 200, response.text
    return response.json()


def events(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for frame in text.strip().split("\n\n"):
        name, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def stream(http: httpx2.Client, **extra: Any) -> list[dict[str, Any]]:
    return events(http.post(URL, json=body(stream=True, **extra)).text)


@pytest.mark.parametrize("name", CASES)
def test_response_is_complete_and_its_usage_adds_up(name: str, http: httpx2.Client) -> None:
    made = ask(http, **CASES[name])
    response = Response.model_validate(http.get(f"{URL}/{made['id']}").json())
    assert response.usage
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


@pytest.mark.parametrize("name", CASES)
def test_stream_follows_the_grammar_and_ends_in_the_response(
    name: str, http: httpx2.Client
) -> None:
    found = stream(http, **CASES[name])
    for event in found:
        EVENT.validate_python(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert found[0]["type"] == "response.created"
    identity = found[0]["response"]["id"]
    assert found[-1]["response"] == http.get(f"{URL}/{identity}").json()
    done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert done == found[-1]["response"]["output"]


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"queued"}))
def test_deltas_join_to_the_buffered_response(name: str, http: httpx2.Client) -> None:
    whole, found = ask(http, **CASES[name]), stream(http, **CASES[name])
    assert found[-1]["response"] == whole
    joined: dict[int, str] = {}
    for event in found:
        if event["type"].endswith(".delta"):
            index = event["output_index"]
            joined[index] = joined.get(index, "") + event["delta"]
    for index, text in joined.items():
        item = whole["output"][index]
        part = (item.get("content") or item.get("summary") or [item])[0]
        names = ("text", "refusal", "arguments", "input", "code")
        assert text == next(part[name] for name in names if name in part)


def test_official_stream_helper_gathers_the_response(client: openai.OpenAI) -> None:
    with client.responses.stream(model="gpt-5.4-mini", input="hi") as opened:
        final = opened.get_final_response()
    assert "simulator" in final.output_text
    assert final.output_text.endswith("hi")


@pytest.mark.parametrize("name", HOSTED)
def test_hosted_tool_is_called_before_the_message(name: str, http: httpx2.Client) -> None:
    kinds = [item["type"] for item in ask(http, **CASES[name])["output"]]
    assert kinds == [HOSTED[name], "message"]


def test_web_search_cites_its_place_in_the_text(http: httpx2.Client) -> None:
    part = ask(http, **CASES["web"])["output"][-1]["content"][0]
    cited = part["annotations"][0]
    assert cited["url"] in part["text"][cited["start_index"] : cited["end_index"]]


def test_reasoning_item_carries_what_was_asked_for(http: httpx2.Client) -> None:
    item = ask(http, **CASES["reasoning"])["output"][0]
    assert item["summary"][0]["type"] == "summary_text"
    assert item["encrypted_content"]
    plain = ask(http, model="gpt-5.4")["output"][0]
    assert plain == {"id": plain["id"], "type": "reasoning", "summary": []}


def test_function_is_called_and_its_output_is_answered_in_text(http: httpx2.Client) -> None:
    made = ask(http, **CASES["function"])
    call = made["output"][0]
    assert json.loads(call["arguments"]).keys() == {"city"}
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    extra = {**CASES["function"], "input": [result], "previous_response_id": made["id"]}
    answer = ask(http, **extra)
    assert answer["output"][0]["type"] == "message"
    assert answer["usage"]["input_tokens"] > made["usage"]["total_tokens"]
    assert len(ask(http, **CASES["parallel"])["output"]) == 2


def test_limit_makes_the_response_incomplete(http: httpx2.Client) -> None:
    made = ask(http, **CASES["cut"])
    assert (made["status"], made["usage"]["output_tokens"]) == ("incomplete", 6)
    assert made["incomplete_details"] == {"reason": "max_output_tokens"}
    assert stream(http, **CASES["cut"])[-1]["type"] == "response.incomplete"


def test_background_response_is_queued_then_completed(client: openai.OpenAI) -> None:
    made = client.responses.create(model="gpt-4o", input="later", background=True)
    assert (made.status, made.output, made.usage) == ("queued", [], None)
    assert client.responses.retrieve(made.id).status == "completed"


def test_background_response_takes_its_time() -> None:
    memory = Memory(SimulatorSettings())
    now = [100.0]
    memory.monotonic = lambda: now[0]
    given = {"model": "gpt-4o", "input": "later", "background": True}
    seed = Seed.of_body(given, [])
    made = responses.create(ApiRequest("POST", URL, {}, given, seed, work_seconds=5.0), memory)
    assert isinstance(made, ApiResponse)
    reading = ApiRequest("GET", URL, {}, {}, seed, ids=[made.payload["id"]])
    states: list[tuple[str, bool]] = []
    for now[0] in (100.0, 104.9, 105.0):
        read = stored_responses.read(reading, memory)
        assert isinstance(read, ApiResponse)
        states.append((read.payload["status"], read.payload["usage"] is not None))
    assert states == [("in_progress", False), ("in_progress", False), ("completed", True)]


def test_background_response_can_be_cancelled_and_others_cannot(client: openai.OpenAI) -> None:
    made = client.responses.create(model="gpt-4o", input="never", background=True)
    assert client.responses.cancel(made.id).status == "cancelled"
    assert client.responses.retrieve(made.id).status == "cancelled"
    plain = client.responses.create(model="gpt-4o", input="now")
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(plain.id)


def test_stored_response_streams_again_from_any_event(http: httpx2.Client) -> None:
    found = stream(http)
    url = f"{URL}/{found[0]['response']['id']}"
    again = events(http.get(url, params={"stream": "true", "starting_after": 3}).text)
    assert again == found[4:]


def test_stored_response_has_input_items_and_can_be_deleted(client: openai.OpenAI) -> None:
    made = client.responses.create(model="gpt-4o", input="remember")
    items = client.responses.input_items.list(made.id).data
    assert items[0].to_dict()["content"] == [{"type": "input_text", "text": "remember"}]
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="gpt-4o", input="x", previous_response_id=made.id)
    assert caught.value.code == "previous_response_not_found"


def test_unstored_response_is_forgotten(client: openai.OpenAI) -> None:
    made = client.responses.create(model="gpt-4o", input="forget", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_compaction_and_counting(client: openai.OpenAI) -> None:
    compacted = client.responses.compact(model="gpt-5.4", input="a long talk")
    assert compacted.object == "response.compaction"
    assert [item.type for item in compacted.output] == ["message", "compaction"]
    counted = client.responses.input_tokens.count(model="gpt-5.4", input="a long talk")
    made = client.responses.create(model="gpt-5.4", input="a long talk")
    assert made.usage is not None
    assert counted.input_tokens == made.usage.input_tokens == compacted.usage.input_tokens


def test_conversation_gathers_items(client: openai.OpenAI) -> None:
    conversation = client.conversations.create(
        metadata={"k": "v"}, items=[{"type": "message", "role": "user", "content": "first"}]
    )
    client.responses.create(model="gpt-4o", input="second", conversation=conversation.id)
    items = client.conversations.items.list(conversation.id, order="asc").data
    assert len(items) == 3
    first = str(items[0].id)
    kept = client.conversations.items.retrieve(first, conversation_id=conversation.id)
    assert kept.type == "message"
    client.conversations.items.delete(first, conversation_id=conversation.id)
    assert len(client.conversations.items.list(conversation.id).data) == 2
    updated = client.conversations.update(conversation.id, metadata={"k": "w"})
    assert updated.metadata == {"k": "w"}
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(conversation.id)
