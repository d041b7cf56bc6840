"""Answers that pass a conversion: in whatever pieces, with faults, ended after the settlement."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from headgate.gateway.chat_conversion import FORMAT
from headgate.gateway.conversions import ConversionTable
from headgate.gateway.converted import ConvertedCaller
from headgate.gateway.encoder import OpenAiEncoder
from headgate.gateway.messages import MessagesCaller, MessagesEncoder
from headgate.kit.errors import HeadgateError
from headgate.llm import sse
from headgate.llm.convert.chat_to_responses import request as chat_request
from headgate.llm.convert.chat_to_responses.stream import CompletionStream
from headgate.llm.convert.messages_to_responses.request import convert_request
from headgate.llm.providers.openai import PROVIDER
from headgate.relay.breaker import Breakers
from headgate.relay.call import Caller
from headgate.relay.call_state import CallState
from headgate.relay.client_response import ClientResponse, ResponseEncoder, ResponseFactory
from headgate.relay.ports import Hold, Model, Receipt
from headgate.relay.pricing import price_call
from headgate.relay.receipts import build_receipt
from headgate.relay.routing import Routing
from headgate.relay.upstream import InvalidProviderResponseError, read_response
from tests.fakes.grammar import chat as chat_grammar
from tests.fakes.grammar import messages as messages_grammar
from tests.fakes.pipeline import (
    CREDENTIAL,
    FakeCaller,
    FakeCredentials,
    FakeModels,
    FakeResponse,
    ManualClock,
    make_call,
    make_state,
)
from tests.unit.llm.convert.messages_to_responses.responses import (
    make_call as make_tool_call,
)
from tests.unit.llm.convert.messages_to_responses.responses import (
    make_events,
    make_response,
    make_text,
)

pytestmark = pytest.mark.anyio

MODEL = Model("m", "m", 1_000, 500)
SSE = [(b"content-type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json")]
RESPONSE = make_response(make_text("Héllo\nthere"), make_tool_call("c1", "get", '{"a":1}'))
ENCODER = OpenAiEncoder(PROVIDER, 60.0, ManualClock())
CHUNKS: list[dict[str, Any]] = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"index": 0, "delta": {"content": "Héllo "}}]},
    {"choices": [{"index": 0, "delta": {"content": "there"}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}},
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def plan(path: str, surface: str, **fields: Any) -> CallState:
    """Return the state of a call that a provider of one surface gets."""
    body = msgspec.json.encode({"model": "m", **fields})
    state = make_state(make_call(path, body=body))
    credential = replace(CREDENTIAL, surfaces=frozenset({surface}))
    models = FakeModels(MODEL)
    table = ConversionTable()
    Routing(FakeCredentials(credential), models, Breakers(ManualClock()), conversions=table).plan(
        state
    )
    assert state.conversion is not None
    return state


def plan_chat(**fields: Any) -> CallState:
    base = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    return plan("/chat/completions", "responses", **{**base, **fields})


class Answering:
    """Hold one answer on its way to its client."""

    def __init__(
        self,
        state: CallState,
        response: FakeResponse,
        caller: Caller | None = None,
        encoder: ResponseEncoder = ENCODER,
    ) -> None:
        self.state = state
        self.response = response
        self.client = FakeCaller()
        self.delivery: ClientResponse = ResponseFactory(
            ManualClock(), body_bytes_max=1 << 20, event_bytes_max=1 << 16
        ).create(state, read_response(response), caller or self.client, encoder)
        state.attempts, state.was_sent = 1, True
        self._transfer: asyncio.Task[None] | None = None

    async def feed(self, *pieces: bytes) -> None:
        if self._transfer is None:
            self._transfer = asyncio.create_task(self.delivery.transfer())
            await self.response.streaming.wait()
        self.response.feed(*pieces)

    async def end(self) -> None:
        """End the provider's stream, settle, and complete the answer."""
        assert self._transfer is not None
        if not self.response.aborted:
            self.response.end()
        await self._transfer
        await self.delivery.complete(self.receipt())

    async def fail(self, error: Exception | None = None) -> HeadgateError:
        """End with an error, as the pipeline does."""
        assert self._transfer is not None
        if error is None:
            self.response.end()
        else:
            self.response.fail(error)
        with pytest.raises(HeadgateError) as caught:
            await self._transfer
        self.delivery.fail(caught.value)
        return caught.value

    def receipt(self) -> Receipt:
        charge = price_call(self.state, FakeModels(MODEL), 0.0)
        return build_receipt(self.state, charge, created_at=0.0, ended_at=0.0)

    @property
    def chunks(self) -> list[dict[str, Any] | None]:
        return [None if data == b"[DONE]" else msgspec.json.decode(data) for data in self.data]

    @property
    def data(self) -> list[bytes]:
        body = self.client.body
        ends = [0, *sse.find_ends(body, 0, final=True)]
        return [sse.parse_event(body[start:end]).data for start, end in itertools.pairwise(ends)]


def encode_events(response: dict[str, Any] = RESPONSE) -> list[bytes]:
    return [
        sse.encode_event(msgspec.json.encode(event), event["type"].encode())
        for event in make_events(response)
    ]


async def run(state: CallState, pieces: list[bytes]) -> Answering:
    answering = Answering(state, FakeResponse(200, SSE))
    await answering.feed(*pieces)
    await answering.end()
    return answering


async def test_stream_that_is_cut_anywhere_gives_the_same_chunks() -> None:
    data = b"".join(encode_events())
    whole = await run(plan_chat(), [data])
    chat_grammar.check_stream(whole.chunks)
    assert whole.receipt().usage == whole.state.parsed_usage.usage
    for size in (1, 7, 64):
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert (await run(plan_chat(), pieces)).client.body == whole.client.body


async def test_last_chunk_waits_for_the_settlement_and_can_be_previewed() -> None:
    events = encode_events()
    answering = Answering(plan_chat(), FakeResponse(200, SSE))
    await answering.feed(*events)
    before = answering.client.body
    assert b'finish_reason":"' not in before
    head, rest = answering.delivery.preview(answering.receipt())
    assert head == b""
    await answering.end()
    assert answering.client.body == before + rest
    assert rest.endswith(b"data: [DONE]\n\n")
    assert (await run(plan_chat(), events)).client.body == answering.client.body


async def test_event_without_an_end_is_counted_and_has_a_limit() -> None:
    client = FakeCaller()
    converted = chat_request.convert_request(
        {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    )
    stream = CompletionStream(converted, len_of)
    caller = ConvertedCaller(client, stream, FORMAT, event_bytes_max=1 << 20)
    caller.start(200, b"")
    caller.write(b'data: {"a":"')
    for _ in range(40):
        caller.write(b"x" * 65_536)
    assert 1 << 20 <= client.held_bytes <= 3 << 20
    caller.finish()
    assert client.body.count(b'"error"') == 1
    assert b"stream event of more than 1048576 bytes" in client.body


def len_of(characters: int) -> int:
    return characters


@pytest.mark.parametrize("garbage", [b"data: nonsense\n\n", b"data: [1]\n\n", b'data: "x"\n\n'])
async def test_garbage_becomes_one_error(garbage: bytes) -> None:
    events = encode_events()
    answering = Answering(plan_chat(), FakeResponse(200, SSE))
    await answering.feed(*events[:5], garbage, *events[5:])
    await answering.end()
    chat_grammar.check_stream(answering.chunks)
    assert answering.chunks[-1] is not None
    assert answering.chunks[-1]["error"]["code"] == "provider_invalid_response"


async def test_stream_that_breaks_ends_with_one_error() -> None:
    for error in (None, ConnectionError("reset")):
        answering = Answering(plan_chat(), FakeResponse(200, SSE))
        await answering.feed(*encode_events()[:5])
        failure = await answering.fail(error)
        chat_grammar.check_stream(answering.chunks)
        last = answering.chunks[-1]
        assert last is not None
        assert last["error"]["code"] == failure.code


async def test_stop_sequence_ends_the_reading_unless_money_is_held() -> None:
    events = encode_events()
    free = Answering(plan_chat(stop="there"), FakeResponse(200, SSE))
    await free.feed(*events[:-1])
    assert free.response.aborted
    await free.end()
    assert free.receipt().estimated
    state = plan_chat(stop="there")
    state.hold = Hold("req_1", "org_1", 1_000_000)
    held = await run(state, events)
    assert not held.receipt().estimated
    for answering in (free, held):
        chat_grammar.check_stream(answering.chunks)
        text = [each["choices"][0]["delta"].get("content") for each in answering.chunks if each]
        assert "".join(filter(None, text)) == "Héllo\n"


async def test_whole_answer_is_converted_and_what_is_none_is_an_error() -> None:
    state = plan_chat(stream=False)
    body = msgspec.json.encode(RESPONSE)
    answering = Answering(state, FakeResponse(200, JSON, body))
    await answering.delivery.transfer()
    await answering.delivery.complete(answering.receipt())
    whole = msgspec.json.decode(answering.client.body)
    assert whole["choices"][0]["message"]["tool_calls"][0]["id"] == "c1"
    for headers, other in ((JSON, b'{"id":"x"}'), (JSON, b"<html>"), ([], b"plain")):
        answering = Answering(plan_chat(stream=False), FakeResponse(200, headers, other))
        with pytest.raises(InvalidProviderResponseError):
            await answering.delivery.transfer()


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff", b'{"id":"x"}'])
def test_whole_answer_that_is_no_response_is_an_error_of_messages(body: bytes) -> None:
    converted = convert_request(
        {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "x"}]}
    )
    encoder = MessagesEncoder(ENCODER, converted)
    with pytest.raises(InvalidProviderResponseError):
        encoder.encode_body(plan_chat(), body)


async def test_message_passes_two_conversions_to_a_provider_of_chat_completions() -> None:
    converted = convert_request(
        {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "x"}]}
        | {"stream": True}
    )
    state = plan("/responses", "chat.completions", **converted.body)
    response = FakeResponse(200, SSE)
    client = FakeCaller()
    caller = MessagesCaller(client, converted)
    answering = Answering(state, response, caller, MessagesEncoder(ENCODER, converted))
    shared = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    pieces = [sse.encode_event(msgspec.json.encode(shared | chunk)) for chunk in CHUNKS]
    await answering.feed(*pieces, b"data: [DONE]\n\n")
    assert b"message_stop" not in client.body
    await answering.end()
    answering.client = client
    events = [each for each in answering.chunks if each is not None]
    messages_grammar.check_stream(events)
    texts = [each["delta"]["text"] for each in events if each["type"] == "content_block_delta"]
    assert "".join(texts) == "Héllo there"
    assert events[-2]["usage"]["output_tokens"] == 4
