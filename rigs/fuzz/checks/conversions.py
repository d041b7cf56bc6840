"""Requests of clients and streams of providers, which converters take for what they should be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, cast

import msgspec

from headgate.kit.errors import HeadgateError
from headgate.llm.answers import DECODE_ERRORS
from headgate.llm.convert.chat_to_responses import reply as chat_reply
from headgate.llm.convert.chat_to_responses import request as chat_request
from headgate.llm.convert.chat_to_responses import stream as chat_stream
from headgate.llm.convert.fields import UnreadableResponseError
from headgate.llm.convert.messages_to_responses import errors as messages_errors
from headgate.llm.convert.messages_to_responses import reply as messages_reply
from headgate.llm.convert.messages_to_responses import request as messages_request
from headgate.llm.convert.messages_to_responses import stream as messages_stream
from headgate.llm.convert.responses_to_chat import reply as responses_reply
from headgate.llm.convert.responses_to_chat import request as responses_request
from headgate.llm.convert.responses_to_chat import stream as responses_stream
from headgate.llm.request import LIMITS, InvalidRequestError, decode
from rigs.fuzz.checks.chunks import split_first_byte
from tests.fakes.grammar import chat as chat_grammar
from tests.fakes.grammar import messages as messages_grammar
from tests.fakes.grammar import responses as responses_grammar

Event = dict[str, Any]
MESSAGE = messages_request.convert_request(
    {
        "model": "m",
        "max_tokens": 2_000,
        "messages": [{"role": "user", "content": "x"}],
        "stop_sequences": ["END"],
        "thinking": {"type": "enabled", "budget_tokens": 1_024},
    }
)
COMPLETION = chat_request.convert_request(
    {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "stop": ["END"],
        "logprobs": True,
        "stream_options": {"include_usage": True},
    }
)
RESPONSE = responses_request.convert_request({"model": "m", "input": "x"})
REQUESTS: tuple[Callable[[Any], Any], ...] = (
    messages_request.convert_request,
    chat_request.convert_request,
    responses_request.convert_request,
)
REPLIES: tuple[Callable[[Any], Any], ...] = (
    lambda answer: messages_reply.convert_reply(answer, MESSAGE),
    lambda answer: chat_reply.convert_reply(answer, COMPLETION),
    lambda answer: responses_reply.convert_reply(answer, RESPONSE),
)


class Stream(Protocol):
    ended: bool

    def feed(self, event: Mapping[str, Any], size: int = 0) -> Iterable[Event]: ...
    def fail(self, error: Event) -> Iterable[Event]: ...
    def close(self) -> Iterable[Event]: ...


def check_request(data: bytes) -> None:
    """Check that a request is refused by its place, or becomes one that can be sent."""
    order, body = split_first_byte(data)
    try:
        decoded = decode(body, LIMITS)
    except InvalidRequestError:
        return
    with contextlib.suppress(HeadgateError):
        converted = REQUESTS[order % len(REQUESTS)](msgspec.json.decode(decoded.body))
        decode(msgspec.json.encode(converted.body), LIMITS)


def check_answer(data: bytes) -> None:
    """Check that a whole answer is converted, or said to be none."""
    order, body = split_first_byte(data)
    try:
        answer = msgspec.json.decode(body)
    except DECODE_ERRORS:
        return
    with contextlib.suppress(UnreadableResponseError):
        msgspec.json.encode(REPLIES[order % len(REPLIES)](answer))


def check_stream(data: bytes) -> None:
    """Check that whatever a provider sends becomes a stream of the client's grammar."""
    order, lines = split_first_byte(data)
    events = read_events(lines)
    if order % 3 == 0:
        stream: Stream = messages_stream.MessageStream(MESSAGE, len_of)
        error = messages_errors.make_error(502, "x")
        messages_grammar.check_stream(list(run(stream, events, error)))
    elif order % 3 == 1:
        stream = chat_stream.CompletionStream(COMPLETION, len_of)
        chunks = run(stream, events, chat_stream.make_error(502, "x"))
        chat_grammar.check_stream(None if chunk is chat_stream.END else chunk for chunk in chunks)
    else:
        stream = responses_stream.ResponseStream(RESPONSE)
        responses_grammar.check_stream(
            list(run(stream, events, responses_stream.make_error(502, "x")))
        )


def run(stream: Stream, events: Iterable[Event], error: Event) -> Iterator[Event]:
    for event in events:
        for told in stream.feed(event, 9):
            msgspec.json.encode(told)
            yield told
    yield from stream.close()
    if not stream.ended:
        yield from stream.fail(error)


def read_events(lines: bytes) -> Iterator[Event]:
    for line in lines.split(b"\n"):
        with contextlib.suppress(*DECODE_ERRORS):
            event = msgspec.json.decode(line)
            if isinstance(event, dict):
                yield cast("Event", event)


def len_of(characters: int) -> int:
    return characters
