"""Add to an answer what clients of VM-X read in it: headers `x-vmx-*`, and the member `vmx`."""

from __future__ import annotations

import datetime
import re
import weakref
from collections.abc import Iterable
from typing import Any

import msgspec

from headgate.gateway.encoder import encode_name
from headgate.gateway.vmx import SURFACES
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError
from headgate.kit.http.exchange import UNHELD_BYTES
from headgate.llm import json_members, sse
from headgate.llm.endpoint import CHAT_COMPLETIONS
from headgate.llm.request import JsonRequest
from headgate.llm.vmx import NAME, Envelope
from headgate.relay.call import Call, Caller
from headgate.relay.call_state import CallState
from headgate.relay.caller_wrapper import CallerWrapper
from headgate.relay.client_response import ResponseEncoder
from headgate.relay.ports import Receipt
from headgate.relay.targets import FALLBACK, CallEvent
from headgate.relay.upstream import UpstreamResponse

ERROR_END = b"data: [ERROR]\n\n"
"""What ends a stream of chat chunks that failed."""
ERROR = b'{"error"'
"""How the data of an event begins that tells an error in the place of a chunk."""
REASON_CHARACTERS_MAX = 500
_NO_TOKEN = re.compile(r"[^!#$%&'*+\-.^_`|~0-9a-z]")
"""What no name of a header may contain."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_OBJECT_END = re.compile(rb"(?:\A|[\r\n])data:[^\r\n]*(\})[ \t]*(?=[\r\n]|\Z)")
"""A line of an event with the end of its data."""
_EMPTY_OBJECT = re.compile(rb"\{[ \t\r\n]*\Z")


class VmxEncoder:
    """Encode the answer to one call with an envelope (`ResponseEncoder`)."""

    def __init__(self, encoder: ResponseEncoder, clock: Clock) -> None:
        self.trailer_names = encoder.trailer_names
        self._encoder = encoder
        self._clock = clock
        self._state: weakref.ref[CallState] | None = None
        """The call's state, once its answer has a head. It leads to the client, and from there to
        this encoder, so that a strong reference would keep its bodies."""
        self._metrics: dict[str, float | None] = {}
        self._described = b""
        """What every chunk tells until the usage is known; made with the first one."""

    def encode_head(
        self, state: CallState, answer: UpstreamResponse, receipt: Receipt | None
    ) -> bytes:
        self._state = weakref.ref(state)
        return self._encoder.encode_head(state, answer, receipt) + render_head(state)

    def encode_trailers(self, receipt: Receipt) -> bytes:
        return self._encoder.encode_trailers(receipt)

    def encode_error(self, state: CallState, answer: UpstreamResponse, body: bytes) -> bytes:
        return self._encoder.encode_error(state, answer, body)

    def encode_body(self, state: CallState, body: bytes) -> bytes:
        """Return a whole answer of the three surfaces with the member `vmx`."""
        body = self._encoder.encode_body(state, body)
        if state.call.endpoint.name not in SURFACES:
            return body
        if len(body) > UNHELD_BYTES:
            state.reserve_answer(len(body))
        metrics = measure(state, state.first_byte_at - state.sent_at)
        metrics["tokensPerSecond"] = find_rate(state, state.answered_at)
        return put_member(body, describe(state, metrics))

    def encode_error_frame(self, state: CallState, error: HeadgateError) -> bytes:
        return self._encoder.encode_error_frame(state, error)

    def describe_chunk(self) -> bytes:
        """Return the value of `vmx` for a chunk that is sent now; empty before there is a state."""
        state = None if self._state is None else self._state()
        if state is None:
            return b""
        if not self._described:
            self._metrics = measure(state, self._clock.monotonic() - state.sent_at)
            self._described = describe(state, self._metrics)
        if state.parsed_usage.usage is None:
            return self._described
        rate = find_rate(state, self._clock.monotonic())
        return describe(state, {**self._metrics, "tokensPerSecond": rate})


class VmxChatCaller(CallerWrapper):
    """Stand before the client of a streamed chat completion: each chunk gets the member `vmx`
    (`relay.call.Caller`)."""

    def __init__(self, caller: Caller, encoder: VmxEncoder) -> None:
        super().__init__(caller)
        self._encoder = encoder
        self._buffer = bytearray()
        self._searched = 0
        self._has_failed = False
        """Whether the last event told an error."""

    def write(self, data: bytes) -> None:
        """Pass on the whole events of a piece of the stream; the rest waits for its end."""
        self._buffer += data
        ends = sse.find_ends(self._buffer, self._searched)
        if ends:
            whole = bytes(self._buffer[: ends[-1]])
            del self._buffer[: ends[-1]]
            self._caller.write(self._decorate(whole, ends))
        self._searched = sse.next_search_offset(self._buffer)

    def finish(self, *, complete: bool = True, trailers: bytes = b"") -> None:
        if self._buffer:
            rest, self._buffer = bytes(self._buffer), bytearray()
            ends = sse.find_ends(rest, 0, final=True)
            end = ends[-1] if ends else 0
            self._caller.write(self._decorate(rest[:end], ends) + rest[end:])
        if self._has_failed:
            self._caller.write(ERROR_END)
        self._caller.finish(complete=complete, trailers=trailers)

    def _decorate(self, whole: bytes, ends: Iterable[int]) -> bytes:
        pieces: list[bytes] = []
        start = 0
        for end in ends:
            event = whole[start:end]
            data = sse.parse_event(event).data
            start = end
            if data.startswith(ERROR):
                self._has_failed = True
            elif data.startswith(b"{"):
                event = decorate_event(event, data, self._encoder.describe_chunk())
            elif data:
                self._has_failed = False
            pieces.append(event)
        return b"".join(pieces)


def decorate(
    call: Call, caller: Caller, encoder: ResponseEncoder, clock: Clock
) -> tuple[Caller, ResponseEncoder]:
    """Return what the answer to a call with an envelope goes through."""
    decorating = VmxEncoder(encoder, clock)
    if call.endpoint.name == CHAT_COMPLETIONS:
        return VmxChatCaller(caller, decorating), decorating
    return caller, decorating


def decorate_event(event: bytes, data: bytes, value: bytes) -> bytes:
    """Return an event of a chat stream with the member `vmx` in its chunk, which is `data`; as it
    came for an empty value, and for data that is no object."""
    chunk = data.rstrip()
    if not value or not chunk.endswith(b"}"):
        return event
    end = 0
    for found in _OBJECT_END.finditer(event):
        end = found.start(1)
    return event[:end] + join_member(chunk[:-1], value) + event[end:]


def put_member(body: bytes, value: bytes) -> bytes:
    """Return a JSON object with the member `vmx`; every other byte stays as it came, and so does a
    body that is no object."""
    try:
        return json_members.put(body, NAME, value)
    except _UNREADABLE:
        return body
    # A key that comes twice stays as it is.
    except ValueError:
        end = body.rindex(b"}")
        return body[:end] + join_member(body[:end], value) + body[end:]


def join_member(before: bytes, value: bytes) -> bytes:
    comma = b"" if _EMPTY_OBJECT.search(before) else b","
    return b'%b"%b":%b' % (comma, NAME.encode(), value)


def measure(state: CallState, first_token_seconds: float) -> dict[str, float | None]:
    """Return the durations of a call in milliseconds, null for what did not happen."""
    route = state.call.route
    return {
        "gateDurationMs": to_milliseconds(state.gate_seconds or 0.0),
        "routingDurationMs": to_milliseconds(None if route is None else route.routing_seconds),
        "timeToFirstTokenMs": to_milliseconds(first_token_seconds),
    }


def to_milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(max(0.0, seconds) * 1000, 3)


def find_rate(state: CallState, now: float) -> float | None:
    """Return the output tokens per second since the call was sent; None without usage."""
    usage, elapsed = state.parsed_usage.usage, now - state.sent_at
    return None if usage is None or elapsed <= 0 else round(usage.output_tokens / elapsed, 2)


def describe(state: CallState, metrics: dict[str, float | None]) -> bytes:
    events = [describe_call_event(event) for event in state.events]
    return msgspec.json.encode({"events": events, "metrics": metrics})


def describe_call_event(event: CallEvent) -> dict[str, Any]:
    """Return an event as VM-X has it in bodies."""
    if event.type == FALLBACK:
        data: dict[str, Any] = {
            "model": {
                "provider": event.failed_provider,
                "model": event.failed_model,
                "connectionId": event.failed_credential_id,
            },
            "failureReason": event.reason,
            "statusCode": event.status or None,
        }
    else:
        data = {
            "originalModel": {"provider": event.original_provider, "model": event.original_model},
            "routedModel": {"provider": event.routed_provider, "model": event.routed_model},
        }
    return {"type": event.type, "timestamp": render_time(event.at), "data": data}


def render_time(at: float) -> str:
    """Return RFC 3339 in UTC, to the millisecond, of unix seconds."""
    moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def render_head(state: CallState) -> bytes:
    """Return the header lines `x-vmx-*` of an answer."""
    call, credential = state.call, state.credential
    envelope = call.envelope
    assert envelope is not None, "only a call with one is encoded so"
    assert credential is not None, "an answer came from somewhere"
    body = state.body
    model = body.model if isinstance(body, JsonRequest) else call.model
    route = call.route
    lines: list[tuple[str, str | None]] = [
        ("model", model),
        ("provider", credential.integration),
        ("connection-id", credential.id),
        ("gate-duration-ms", render_duration(state.gate_seconds or 0.0)),
        ("routing-duration-ms", render_duration(None if route is None else route.routing_seconds)),
        *list_event_lines(state.events),
    ]
    return render_request(call.request_id, envelope, call.correlation_id) + render_lines(lines)


def render_request(request_id: str, envelope: Envelope, correlation_id: str | None) -> bytes:
    """Return the header lines that tell a client which of its requests is answered; an error has
    these alone."""
    lines = [
        ("request-id", request_id),
        ("correlation-id", correlation_id or envelope.correlation_id),
    ]
    lines += [
        (f"metadata-{_NO_TOKEN.sub('-', key.lower())}", value)
        for key, value in envelope.metadata.items()
        if value
    ]
    return render_lines(lines)


def render_duration(seconds: float | None) -> str | None:
    return None if seconds is None else f"{max(0.0, seconds) * 1000:.0f}"


def list_event_lines(events: Iterable[CallEvent]) -> list[tuple[str, str | None]]:
    lines: list[tuple[str, str | None]] = []
    count = 0
    for index, event in enumerate(events):
        fields = {
            "type": event.type,
            "timestamp": render_time(event.at),
            "fallback-failed-model": event.failed_model,
            "fallback-failure-reason": event.reason[:REASON_CHARACTERS_MAX],
            "routing-original-provider": event.original_provider,
            "routing-original-model": event.original_model,
            "routing-routed-provider": event.routed_provider,
            "routing-routed-model": event.routed_model,
        }
        lines += [(f"event-{index}-{name}", value) for name, value in fields.items()]
        count += 1
    return [("event-count", str(count)), *lines]


def render_lines(lines: Iterable[tuple[str, str | None]]) -> bytes:
    """Return header lines without those that have no value.

    Control characters are left out, so that no value begins a line of its own. What else cannot
    stand in a header becomes a question mark.
    """
    return b"".join(
        b"x-vmx-%b: %b\r\n" % (name.encode(), encode_name(_CONTROLS.sub("", value)))
        for name, value in lines
        if value
    )
