"""Official SDKs call models that answer by another API than the one that is called."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import anthropic
import openai
import pytest
from anthropic.types import Message
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from tests.fakes.gateway import find_port, running_gateway
from tests.fakes.grammar.watching import watch_streams
from tests.fakes.receipts import open_receipts
from tests.fakes.simulated_gateway import SimulatedGateway

CATALOG = Path(__file__).parents[1] / "golden" / "conversions"
KEY = "sk-responder-0123456789abcdefghij"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def converting(tmp_path_factory: pytest.TempPathFactory) -> Generator[SimulatedGateway]:
    """Run a server whose simulator is reached as two providers that have one API each."""
    port = find_port()
    folder = tmp_path_factory.mktemp("conversions")
    catalog = folder / "catalog"
    catalog.mkdir()
    for file in CATALOG.iterdir():
        (catalog / file.name).write_text(file.read_text().replace("PORT", str(port)))
    settings: dict[str, Any] = {"simulator": "true", "simulator_port": port}
    with (
        running_gateway(folder / "data", catalog_dir=catalog, **settings) as gateway,
        open_receipts(gateway) as receipts,
    ):
        for name in ("responder", "talker"):
            added = gateway.run(
                *("credentials", "add", name, "--name", name, "--api-key-stdin"),
                *("--organization", gateway.keys["organization_id"]),
                stdin=KEY,
            )
            assert added.returncode == 0, added.stderr
        http_client = openai.DefaultHttpxClient(event_hooks={"response": [watch_streams]})
        client = gateway.sdk(max_retries=0, timeout=10, http_client=http_client)
        yield SimulatedGateway(gateway, client, receipts)


def create(running: SimulatedGateway, **fields: Any) -> ChatCompletion:
    wanted: dict[str, Any] = {"model": "resp-1", "messages": HELLO} | fields
    return cast("ChatCompletion", running.client.chat.completions.create(**wanted))


def stream(running: SimulatedGateway, **fields: Any) -> tuple[ChatCompletion, list[Any]]:
    wanted: dict[str, Any] = {"model": "resp-1", "messages": HELLO} | fields
    options: Any = {"include_usage": True}
    with running.client.chat.completions.stream(**wanted, stream_options=options) as events:
        chunks = [event.chunk for event in events if event.type == "chunk"]
        return cast("ChatCompletion", events.current_completion_snapshot), chunks


SURFACES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tool": {"tools": [WEATHER]},
    "structured": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    },
    "cut": {"max_completion_tokens": 20},
    "stop": {"stop": [" "]},
}


@pytest.mark.parametrize("surface", SURFACES)
def test_chat_completion_is_the_same_whole_and_streamed_and_costs_the_same(
    converting: SimulatedGateway, surface: str
) -> None:
    fields = SURFACES[surface]
    converting.receipts.take()
    whole = create(converting, **fields)
    receipt = converting.receipts.take_one()
    streamed, chunks = stream(converting, **fields)
    receipt_of_stream = converting.receipts.take_one()
    assert whole.id.startswith("chatcmpl-")
    assert isinstance(chunks[0], ChatCompletionChunk)
    assert whole.choices[0].finish_reason == streamed.choices[0].finish_reason
    one, other = (each.choices[0].message for each in (whole, streamed))
    assert (one.content or "") == (other.content or "")
    calls = [[call.to_dict() for call in each.tool_calls or ()] for each in (one, other)]
    arguments = [[cast("Any", call)["function"]["arguments"] for call in each] for each in calls]
    assert arguments[0] == arguments[1]
    assert bool(arguments[0]) == (surface == "tool")
    assert receipt.endpoint == receipt_of_stream.endpoint == "chat.completions"
    assert (receipt.provider, receipt.model_requested) == ("responder", "resp-1")
    if surface != "stop":
        assert whole.usage == streamed.usage
        assert receipt.usage == receipt_of_stream.usage
        assert receipt.cost_nano == receipt_of_stream.cost_nano > 0


FUNCTION: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": WEATHER["function"]["parameters"],
    "strict": False,
}


@pytest.mark.parametrize("tools", [[], [FUNCTION]], ids=["text", "tool"])
def test_response_of_a_chat_provider_is_the_same_whole_and_streamed(
    converting: SimulatedGateway, tools: list[Any]
) -> None:
    converting.receipts.take()
    fields: dict[str, Any] = {"model": "talk-1", "input": "Hello", "tools": tools}
    whole = cast("Response", converting.client.responses.create(**fields))
    receipt = converting.receipts.take_one()
    with converting.client.responses.stream(**fields) as events:
        assert list(events)[-1].type == "response.completed"
        streamed = cast("Response", events.get_final_response())
    receipt_of_stream = converting.receipts.take_one()
    assert whole.output_text == streamed.output_text
    assert [item.type for item in whole.output] == [item.type for item in streamed.output]
    assert whole.usage == streamed.usage
    assert (receipt.endpoint, receipt.provider) == ("responses", "talker")
    assert (receipt.usage, receipt.cost_nano) == (
        receipt_of_stream.usage,
        receipt_of_stream.cost_nano,
    )


def test_message_reaches_a_provider_that_knows_chat_completions_only(
    converting: SimulatedGateway,
) -> None:
    converting.receipts.take()
    base_url = converting.gateway.base_url.removesuffix("/v1")
    with anthropic.Anthropic(
        base_url=base_url, api_key=converting.gateway.key, max_retries=0
    ) as client:
        fields: dict[str, Any] = {"model": "talk-1", "max_tokens": 500, "messages": HELLO}
        whole = cast("Message", client.messages.create(**fields))
        with client.messages.stream(**fields) as events:
            text = events.get_final_text()
            streamed = cast("Message", events.get_final_message())
    assert whole.content[0].to_dict()["text"] == text
    assert whole.usage.output_tokens == streamed.usage.output_tokens
    assert {each.endpoint for each in converting.receipts.take()} == {"messages"}


def test_losses_are_told_and_refused_in_strict_mode(converting: SimulatedGateway) -> None:
    raw = converting.client.chat.completions.with_raw_response
    told = raw.create(model="resp-1", messages=HELLO, seed=1, user="u")
    assert told.headers["x-headgate-conversion-losses"] == "seed;lost"
    exact = raw.create(model="resp-1", messages=HELLO, user="u")
    assert "x-headgate-conversion-losses" not in exact.headers
    strict = {"x-headgate-conversion": "strict"}
    with pytest.raises(openai.BadRequestError) as caught:
        create(converting, seed=1, extra_headers=strict)
    assert (caught.value.code, caught.value.param) == ("conversion_lossy", "seed")
    create(converting, extra_headers=strict)


def test_what_cannot_be_converted_is_refused_before_it_is_sent(
    converting: SimulatedGateway,
) -> None:
    converting.receipts.take()
    with pytest.raises(openai.BadRequestError) as several:
        create(converting, n=2)
    assert (several.value.code, several.value.param) == ("unsupported_on_responses", "n")
    with pytest.raises(openai.BadRequestError) as search:
        converting.client.responses.create(model="responder/search-1", input="x")
    assert (search.value.code, search.value.param) == ("model_endpoint_mismatch", "model")
    assert "/v1/chat/completions" in search.value.message
    with pytest.raises(openai.BadRequestError) as background:
        converting.client.responses.create(model="talk-1", input="x", background=True)
    assert background.value.param == "background"
    assert {each.outcome for each in converting.receipts.take()} == {"refused"}


def test_repeated_call_gets_the_converted_answer_again(converting: SimulatedGateway) -> None:
    raw = converting.client.chat.completions.with_raw_response
    for number, streams in enumerate((False, True)):
        headers = {"idempotency-key": f"converted-{number}"}
        texts: list[bytes] = []
        for replayed in (None, "true"):
            fields: dict[str, Any] = {"stream": streams, "extra_headers": headers}
            answer = cast("Any", raw.create(model="resp-1", messages=HELLO, **fields))
            assert answer.headers.get("idempotent-replayed") == replayed
            texts.append(b"".join(answer.http_response.iter_bytes()))
        assert texts[0] == texts[1]
        assert b"chatcmpl-" in texts[0]
        assert texts[0].endswith(b"data: [DONE]\n\n") == streams


def test_error_of_the_provider_keeps_its_shape(converting: SimulatedGateway) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        create(converting, extra_headers={"x-simulator-fault": "status=400"})
    assert caught.value.status_code == 400


def test_envelope_of_vmx_speaks_to_the_provider_and_decorates_what_was_converted(
    converting: SimulatedGateway,
) -> None:
    # A field of Responses, which a chat completion does not have.
    body: dict[str, Any] = {"vmx": {"providerArgs": {"reasoning": {"effort": "low"}}}}
    whole = create(converting, extra_body=body)
    assert cast("Any", whole).vmx["events"] == []
    streamed, chunks = stream(converting, extra_body=body)
    assert streamed.choices[0].message.content == whole.choices[0].message.content
    assert all(chunk.vmx["metrics"]["timeToFirstTokenMs"] > 0 for chunk in chunks)
    assert chunks[-1].vmx["metrics"]["tokensPerSecond"] > 0
