from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

URL = "/v1/chat/completions"
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
}
CASES: dict[str, dict[str, Any]] = {
    "text": {},
    "several": {"n": 3},
    "tools": {"tools": [{"type": "function", "function": {"name": "w", "parameters": WEATHER}}]},
    "custom": {"tools": [{"type": "custom", "custom": {"name": "sql"}}]},
    "object": {"response_format": {"type": "json_object"}},
    "cut": {"max_completion_tokens": 5},
    "reasoning": {"model": "o4-mini", "reasoning_effort": "high"},
    "search": {"model": "gpt-4o-search-preview"},
    "audio": {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
    "probabilities": {"logprobs": True, "top_logprobs": 2},
    "refusal": {"messages": [{"role": "user", "content": "[refuse] please"}]},
    "predicted": {"prediction": {"type": "content", "content": "You said: something else"}},
}


def ask(http: httpx2.Client, **extra: Any) -> dict[str, Any]:
    response = http.post(URL, json=body(**extra))
    assert response.status_code == 200, response.text
    return response.json()


def body(**extra: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "What is the weather?"}]
    return {"model": "gpt-4o", "messages": messages, **extra}


def events(http: httpx2.Client, **extra: Any) -> list[dict[str, Any]]:
    extra.setdefault("stream_options", {"include_usage": True})
    text = http.post(URL, json=body(stream=True, **extra)).text
    frames = [frame.removeprefix("data: ") for frame in text.split("\n\n") if frame]
    assert frames.pop() == "[DONE]"
    return [json.loads(frame) for frame in frames]


def _transcript(said: dict[str, Any]) -> str | None:
    return said["audio"].get("transcript") if said.get("audio") else None


def gather(chunks: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            kept = choices.setdefault(choice["index"], {"text": "", "calls": {}})
            delta = choice["delta"]
            spoken = delta.get("content") or delta.get("refusal")
            kept["text"] += spoken or _transcript(delta) or ""
            kept["finish"] = choice["finish_reason"]
            for call in delta.get("tool_calls") or ():
                given = call.get("function") or call["custom"]
                text = given.get("arguments", given.get("input"))
                kept["calls"][call["index"]] = kept["calls"].get(call["index"], "") + text
    return choices


@pytest.mark.parametrize("name", CASES)
def test_answer_is_complete_and_its_usage_adds_up(name: str, http: httpx2.Client) -> None:
    answer = ChatCompletion.model_validate(ask(http, **CASES[name]))
    usage = answer.usage
    assert usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


@pytest.mark.parametrize("name", CASES)
def test_stream_says_what_the_buffered_answer_says(name: str, http: httpx2.Client) -> None:
    answer, chunks = ask(http, **CASES[name]), events(http, **CASES[name])
    # The SDK's type of a chunk knows no custom tools, though the API streams them.
    for chunk in chunks if name != "custom" else ():
        ChatCompletionChunk.model_validate(chunk)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert {chunk["id"] for chunk in chunks} == {answer["id"]}
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], answer["usage"])
    assert {chunk["usage"] for chunk in chunks[:-1]} == {None}
    for index, kept in gather(chunks).items():
        message = answer["choices"][index]["message"]
        spoken = message["content"] or message["refusal"] or ""
        assert kept["text"] == (_transcript(message) or spoken)
        assert kept["finish"] == answer["choices"][index]["finish_reason"]
        assert len(kept["calls"]) == len(message.get("tool_calls", ()))


def test_usage_chunk_comes_only_when_asked_for(http: httpx2.Client) -> None:
    chunks = events(http, stream_options={})
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


def test_text_names_the_simulator_and_echoes_the_user(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "system", "content": "x"}, {"role": "user", "content": "good day"}],
    )
    text = answer.choices[0].message.content or ""
    assert "simulator" in text
    assert text.endswith("good day")


def test_equal_bodies_get_equal_answers_and_others_do_not(http: httpx2.Client) -> None:
    first, again = http.post(URL, json=body()), http.post(URL, json=body())
    assert (first.content, first.headers["x-request-id"]) == (
        again.content,
        again.headers["x-request-id"],
    )
    assert ask(http, seed=1)["id"] != first.json()["id"]


def test_first_tool_is_called_and_then_answered_in_text(http: httpx2.Client) -> None:
    tools = CASES["tools"]["tools"]
    choice = ask(http, tools=tools)["choices"][0]
    call = choice["message"]["tool_calls"][0]
    given = json.loads(call["function"]["arguments"])
    assert choice["finish_reason"] == "tool_calls"
    assert given["days"] >= 2
    assert given["city"]
    replies = [
        *body()["messages"],
        choice["message"],
        {"role": "tool", "tool_call_id": call["id"], "content": "sunny"},
    ]
    assert ask(http, tools=tools, messages=replies)["choices"][0]["finish_reason"] == "stop"


def test_parallel_calls_when_the_prompt_says_so_and_the_caller_allows(http: httpx2.Client) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "ab"]
    messages = [{"role": "user", "content": "in parallel"}]
    both = ask(http, tools=tools, messages=messages)["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in both] == ["a", "b"]
    one = ask(http, tools=tools, messages=messages, parallel_tool_calls=False)
    assert len(one["choices"][0]["message"]["tool_calls"]) == 1


def test_named_tool_is_called_and_none_calls_nothing(http: httpx2.Client) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "ab"]
    choice = {"type": "function", "function": {"name": "b"}}
    calls = ask(http, tools=tools, tool_choice=choice)["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["b"]
    silent = ask(http, tools=tools, tool_choice="none")["choices"][0]["message"]
    assert "tool_calls" not in silent


def test_structured_answer_fits_its_schema(http: httpx2.Client) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER}}
    text = ask(http, response_format=wanted)["choices"][0]["message"]["content"]
    assert json.loads(text).keys() == {"city", "days"}


def test_limit_bounds_all_completion_tokens_and_says_length(http: httpx2.Client) -> None:
    for model in ("gpt-4o", "o3"):
        answer = ask(http, model=model, max_completion_tokens=8)
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == 8


def test_usage_details_tell_reasoning_audio_prediction_and_cache(http: httpx2.Client) -> None:
    def details(name: str, **extra: Any) -> dict[str, Any]:
        return ask(http, **CASES[name], **extra)["usage"]["completion_tokens_details"]

    assert details("reasoning")["reasoning_tokens"] == 128
    assert details("audio")["audio_tokens"] > 0
    predicted = details("predicted")
    assert predicted["accepted_prediction_tokens"] + predicted["rejected_prediction_tokens"] == 6
    long = [{"role": "user", "content": "x" * 8000}]
    usage = ask(http, messages=long, prompt_cache_key="k")["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert cached == usage["prompt_tokens"] // 128 * 128 > 1024
    assert ask(http, messages=long)["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_citation_points_at_its_place_in_the_text(http: httpx2.Client) -> None:
    message = ask(http, web_search_options={})["choices"][0]["message"]
    cited = message["annotations"][0]["url_citation"]
    assert cited["url"] in message["content"][cited["start_index"] : cited["end_index"]]


def test_stored_chat_is_listed_changed_and_deleted(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "keep me"}],
        store=True,
        metadata={"k": "v"},
    )
    stored = client.chat.completions
    assert stored.retrieve(made.id).choices[0].message == made.choices[0].message
    assert [each.id for each in stored.list(metadata={"k": "v"})] == [made.id]
    assert stored.messages.list(made.id).data[0].content == "keep me"
    assert stored.update(made.id, metadata={"k": "w"}).metadata == {"k": "w"}
    assert stored.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        stored.retrieve(made.id)
