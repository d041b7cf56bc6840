from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http import errors as egress
from headgate.llm.usage import Usage
from headgate.relay.call_state import CallState
from headgate.relay.client_response import ClientResponse, ResponseFactory
from headgate.relay.ports import Receipt
from headgate.relay.pricing import price_call
from headgate.relay.receipts import build_receipt
from headgate.relay.upstream import (
    InvalidProviderResponseError,
    ProviderTimeoutError,
    read_response,
)
from tests.fakes.pipeline import (
    CHAT,
    CREDENTIAL,
    STREAMED_CHAT,
    FakeCaller,
    FakeEncoder,
    FakeModels,
    FakeResponse,
    ManualClock,
    make_call,
    make_state,
)

pytestmark = pytest.mark.anyio

GOLDEN = Path(__file__).parents[2] / "golden"
TEXT = b'data: {"id":"c","model":"gpt-5.4-mini","choices":[{"delta":{"content":"hello"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"
SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class StopError(HeadgateError):
    kind = Kind.UNAVAILABLE
    code = "gateway_stopping"


class Rig:
    """Hold one response, its provider and its client."""

    def __init__(self, state: CallState, response: FakeResponse, **limits: int) -> None:
        self.state = state
        self.response = response
        self.caller = FakeCaller()
        bounds = {"body_bytes_max": 1 << 20, "event_bytes_max": 1 << 16} | limits
        state.attempts, state.was_sent = 1, True
        self.delivery: ClientResponse = ResponseFactory(ManualClock(), **bounds).create(
            state, read_response(response), self.caller, FakeEncoder()
        )
        self.carrying: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        self.carrying = asyncio.create_task(self.delivery.transfer())
        await self.response.streaming.wait()

    async def carried(self) -> None:
        assert self.carrying is not None
        await self.carrying

    def receipt(self) -> Receipt:
        return build_receipt(
            self.state, price_call(self.state, FakeModels(), 0.0), created_at=0.0, ended_at=0.0
        )


def stream(path: str = "/chat/completions", body: bytes = STREAMED_CHAT, **limits: int) -> Rig:
    return Rig(make_state(make_call(path, body=body)), FakeResponse(200, SSE), **limits)


def buffered(body: bytes | egress.EgressError, *, status: int = 200, headers: Any = JSON) -> Rig:
    return Rig(make_state(make_call(body=CHAT)), FakeResponse(status, headers, body))


async def test_each_event_reaches_the_caller_before_the_next_one_comes() -> None:
    rig = stream()
    await rig.begin()
    for count in range(1, 4):
        rig.response.feed(TEXT)
        assert rig.caller.body == TEXT * count


async def test_last_event_and_the_end_wait_for_the_settlement() -> None:
    rig = stream()
    await rig.begin()
    rig.response.feed(TEXT, USAGE, DONE)
    await rig.carried()
    assert rig.caller.body == TEXT + USAGE
    assert rig.caller.finished is None
    rig.response.end()
    await rig.delivery.complete(rig.receipt())
    assert rig.caller.body == TEXT + USAGE + DONE
    assert rig.caller.finished is True
    assert rig.state.outcome == "completed"


async def test_usage_event_is_removed_unless_the_client_asked() -> None:
    rig = stream()
    rig.state.requested_usage = True
    rig = Rig(rig.state, FakeResponse(200, SSE))
    await rig.begin()
    rig.response.feed(TEXT, USAGE, DONE)
    rig.response.end()
    await rig.carried()
    await rig.delivery.complete(receipt := rig.receipt())
    assert rig.caller.body == TEXT + DONE
    assert receipt.usage == Usage(input_tokens=3, output_tokens=4)


async def test_bytes_after_the_last_event_go_on_too() -> None:
    rig = stream()
    await rig.begin()
    rig.response.feed(TEXT + DONE)
    await rig.carried()
    delivering = asyncio.create_task(rig.delivery.complete(rig.receipt()))
    await asyncio.wait([delivering], timeout=0)
    rig.response.feed(b": bye\n\n")
    rig.response.end()
    await delivering
    assert rig.caller.body == TEXT + DONE + b": bye\n\n"


async def test_reset_after_the_last_event_is_ignored() -> None:
    rig = stream()
    await rig.begin()
    rig.response.feed(TEXT + DONE)
    rig.response.fail(egress.DisconnectedError("reset"))
    await rig.carried()
    await rig.delivery.complete(rig.receipt())
    assert rig.caller.finished is True


PATHS = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "responses": "/responses",
    "images": "/images/generations",
    "audio": "/audio/transcriptions",
}


async def carry_cut(path: Path, chunks: list[bytes]) -> tuple[bytes, Receipt]:
    body = b'{"model":"gpt-5.4-mini"}'
    rig = Rig(make_state(make_call(PATHS[path.parent.name], body=body)), FakeResponse(200, SSE))
    await rig.begin()
    rig.response.feed(*chunks)
    rig.response.end()
    await rig.carried()
    await rig.delivery.complete(receipt := rig.receipt())
    return rig.caller.body, receipt


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*/*.sse")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
async def test_cutting_a_stream_anywhere_changes_neither_bytes_nor_usage_nor_price(
    path: Path,
) -> None:
    data = path.read_bytes()  # noqa: ASYNC240 - a small file, and nobody else on the loop
    whole, receipt = await carry_cut(path, [data])
    assert whole == data
    step = max(1, len(data) // 400)
    for cut in range(1, len(data), step):
        assert await carry_cut(path, [data[:cut], data[cut:]]) == (data, receipt), cut
    assert await carry_cut(path, [bytes([byte]) for byte in data]) == (data, receipt)


def told(rig: Rig, code: str) -> bool:
    """Return whether the client's stream ends in an error frame that starts on a line of its
    own."""
    last = rig.caller.body.rstrip(b"\n").rpartition(b"\n\n")[2]
    data = last.rpartition(b"data: ")[2]
    body = msgspec.json.decode(data)
    return body.get("error", body)["code"] == code


async def break_off(rig: Rig, error: type[HeadgateError]) -> Receipt:
    with pytest.raises(error) as caught:
        await rig.carried()
    rig.state.end_early(caught.value, disconnected=False)
    rig.delivery.fail(caught.value)
    return rig.receipt()


@pytest.mark.parametrize("cut", [b"", TEXT[:-1], TEXT[:40]])
async def test_stream_that_ends_early_ends_in_an_error_frame_and_an_estimate(cut: bytes) -> None:
    rig = stream()
    await rig.begin()
    rig.response.feed(TEXT + cut)
    rig.response.end()
    receipt = await break_off(rig, InvalidProviderResponseError)
    assert rig.caller.body.startswith(TEXT)
    assert told(rig, "provider_invalid_response")
    assert rig.caller.finished is True
    assert (receipt.outcome, receipt.estimated) == ("unknown", True)
    assert receipt.cost_nano > 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (egress.DisconnectedError("reset"), "provider_invalid_response"),
        (egress.IdleTimeoutError("still"), "provider_timeout"),
        (egress.TotalTimeoutError("long"), "provider_timeout"),
    ],
)
async def test_stream_that_is_cut_inside_an_event_ends_in_a_frame_of_its_own(
    error: egress.EgressError, code: str
) -> None:
    rig = stream()
    await rig.begin()
    rig.response.feed(TEXT + TEXT[:30])
    rig.response.fail(error)
    receipt = await break_off(rig, HeadgateError)
    assert rig.caller.body.startswith(TEXT + b"data: {")
    assert told(rig, code)
    assert receipt.usage is not None
    assert receipt.usage.output_tokens == 2, "five bytes delivered, rounded up"


async def test_error_frame_does_not_run_into_a_bulk_event_that_broke_off() -> None:
    rig = stream("/images/generations", b'{"model":"gpt-image-1","stream":true}')
    await rig.begin()
    rig.response.feed(b'data: {"type":"image_generation.partial_image","b64":"AAAA')
    rig.response.fail(egress.DisconnectedError("reset"))
    await break_off(rig, InvalidProviderResponseError)
    assert told(rig, "provider_invalid_response")


async def test_event_over_the_limit_goes_on_as_it_comes() -> None:
    rig = stream(event_bytes_max=4096)
    head = b'data: {"choices":[{"delta":{"images":["'
    await rig.begin()
    rig.response.feed(head)
    for _ in range(50):
        rig.response.feed(b"A" * 1000)
    assert len(rig.caller.body) > 45_000
    rig.response.feed(b'"]}}]}\n\n' + USAGE + DONE)
    rig.response.end()
    await rig.carried()
    await rig.delivery.complete(receipt := rig.receipt())
    assert rig.caller.body == head + b"A" * 50_000 + b'"]}}]}\n\n' + USAGE + DONE
    assert (receipt.outcome, receipt.usage) == ("completed", Usage(input_tokens=3, output_tokens=4))


FINISH = b'data: {"choices":[{"index":%d,"delta":{},"finish_reason":"stop"}]}\n\n'


@pytest.mark.parametrize(
    ("path", "body", "choices"),
    [
        ("/chat/completions", STREAMED_CHAT, 1),
        ("/chat/completions", STREAMED_CHAT[:-1] + b',"n":2}', 2),
        ("/completions", b'{"model":"m","stream":true,"n":2,"prompt":["a","b"]}', 4),
        ("/completions", b'{"model":"m","stream":true,"prompt":[[1,2],[3]]}', 2),
        ("/completions", b'{"model":"m","stream":true,"prompt":[1,2,3]}', 1),
    ],
)
async def test_stream_in_which_every_choice_has_finished_needs_no_terminal_event(
    path: str, body: bytes, choices: int
) -> None:
    for finished in range(choices + 1):
        rig = stream(path, body)
        events = TEXT + b"".join(FINISH % index for index in range(finished)) + USAGE
        await rig.begin()
        rig.response.feed(events)
        rig.response.end()
        if finished < choices:
            await break_off(rig, InvalidProviderResponseError)
            continue
        await rig.carried()
        await rig.delivery.complete(receipt := rig.receipt())
        assert rig.caller.body == events
        assert (receipt.outcome, receipt.usage) == (
            "completed",
            Usage(input_tokens=3, output_tokens=4),
        )


async def test_stream_that_breaks_off_in_an_event_is_not_complete() -> None:
    for ending in (FINISH % 0 + USAGE[:20], FINISH % 0 + b"data: {"):
        rig = stream()
        await rig.begin()
        rig.response.feed(ending)
        rig.response.end()
        await break_off(rig, InvalidProviderResponseError)


@pytest.mark.parametrize(
    "kind",
    ["application/jsonl", "application/json-lines", "application/x-ndjson", "application/json-seq"],
)
@pytest.mark.parametrize("path", ["/files/file-1/content", "/chat/completions"])
async def test_json_lines_are_streamed(kind: str, path: str) -> None:
    await check_streams_through(path, kind)


@pytest.mark.parametrize("kind", ["application/json", "text/html", "application/pdf", ""])
async def test_file_streams_through_whatever_its_type(kind: str) -> None:
    await check_streams_through("/files/file-1/content", kind)


async def check_streams_through(path: str, kind: str) -> None:
    headers = [(b"content-type", kind.encode())] if kind else []
    method = "GET" if path.startswith("/files") else "POST"
    call = make_call(path, body=CHAT if method == "POST" else b"", method=method)
    rig = Rig(make_state(call), FakeResponse(200, headers), body_bytes_max=1000)
    await rig.begin()
    rig.response.feed(b'{"a":1}\n' * 1000)
    assert len(rig.caller.body) == 7999
    rig.response.end()
    await rig.carried()
    await rig.delivery.complete(rig.receipt())
    assert rig.caller.body == b'{"a":1}\n' * 1000


@pytest.mark.parametrize("path", ["/responses", "/images/generations"])
async def test_event_that_carries_the_whole_answer_may_be_as_large_as_an_answer(path: str) -> None:
    kind = "response.completed" if path == "/responses" else "image_generation.completed"
    rig = stream(path, b'{"model":"m","stream":true}', event_bytes_max=1000)
    event = b'data: {"type":"%b","b64":"%b","response":{"id":"r","usage":null}}\n\n' % (
        kind.encode(),
        b"A" * 500_000,
    )
    await rig.begin()
    for start in range(0, len(event), 65536):
        rig.response.feed(event[start : start + 65536])
    rig.response.end()
    await rig.carried()
    await rig.delivery.complete(rig.receipt())
    assert rig.caller.body == event


async def test_malformed_event_is_passed_on() -> None:
    rig = stream()
    await rig.begin()
    rig.response.feed(b"data: {not json\n\n" + USAGE + DONE)
    rig.response.end()
    await rig.carried()
    await rig.delivery.complete(receipt := rig.receipt())
    assert rig.caller.body == b"data: {not json\n\n" + USAGE + DONE
    assert receipt.usage == Usage(input_tokens=3, output_tokens=4)


async def test_error_in_band_is_passed_on_and_what_was_delivered_is_estimated() -> None:
    rig = stream()
    error = b'data: {"error":{"code":"server_error","message":"boom"}}\n\n'
    await rig.begin()
    rig.response.feed(TEXT + error)
    rig.response.end()
    await rig.carried()
    await rig.delivery.complete(receipt := rig.receipt())
    assert rig.caller.body == TEXT + error
    assert (receipt.outcome, receipt.error_code) == ("upstream_error", "server_error")
    assert receipt.estimated
    assert receipt.cost_nano > 0


async def test_error_in_band_before_any_content_costs_nothing() -> None:
    rig = stream()
    await rig.begin()
    rig.response.feed(b'data: {"error":{"code":"server_error"}}\n\n')
    rig.response.end()
    await rig.carried()
    assert rig.receipt().cost_nano == 0


async def test_stream_of_an_unknown_wire_is_not_held_back_by_an_event() -> None:
    rig = stream("/threads/t/runs", b'{"stream":true}')
    await rig.begin()
    for chunk in (b"event: thread.run.created\ndata: {}\n\n", b"event: x\nda", b"ta: {}\n\n"):
        rig.response.feed(chunk)
        assert rig.caller.body.endswith(chunk)
    rig.response.end()
    await rig.carried()
    assert rig.caller.finished is None
    await rig.delivery.complete(rig.receipt())
    assert rig.caller.finished is True
    assert rig.state.outcome == "completed"


async def test_cut_stream_of_an_unknown_wire_ends_short() -> None:
    rig = stream("/threads/t/runs", b'{"stream":true}')
    await rig.begin()
    rig.response.feed(b"event: thread.run.created\ndata: {}\n\n")
    rig.response.fail(egress.DisconnectedError("reset"))
    await break_off(rig, InvalidProviderResponseError)
    assert rig.caller.finished is False


def sound() -> Rig:
    call = make_call("/audio/speech", body=b'{"model":"gpt-4o-mini-tts"}')
    return Rig(make_state(call), FakeResponse(200, [(b"content-type", b"audio/mpeg")]))


async def test_sound_is_streamed_but_for_its_last_byte() -> None:
    rig = sound()
    await rig.begin()
    rig.response.feed(b"\x00\x01\x02")
    assert rig.caller.body == b"\x00\x01"
    rig.response.feed(b"\x03")
    assert rig.caller.body == b"\x00\x01\x02"
    rig.response.end()
    await rig.carried()
    assert rig.caller.body == b"\x00\x01\x02"
    await rig.delivery.complete(rig.receipt())
    assert rig.caller.body == b"\x00\x01\x02\x03"


async def test_cut_sound_ends_short_without_an_error_frame() -> None:
    rig = sound()
    await rig.begin()
    rig.response.feed(b"\x00\x01\x02")
    rig.response.fail(egress.DisconnectedError("reset"))
    await break_off(rig, InvalidProviderResponseError)
    assert rig.caller.body == b"\x00\x01"
    assert rig.caller.finished is False


async def test_upload_that_fails_while_its_answer_streams_breaks_the_answer_off() -> None:
    rig = sound()
    await rig.begin()
    rig.response.fail(StopError("the body broke"))
    with pytest.raises(StopError):
        await rig.carried()


async def test_cancelling_closes_the_provider_and_tells_the_caller() -> None:
    rig = stream()
    await rig.begin()
    rig.response.feed(TEXT)
    assert rig.carrying is not None
    rig.carrying.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await rig.carried()
    assert rig.response.aborted
    error = rig.state.end_early(caught.value, disconnected=False)
    rig.delivery.fail(error)
    assert told(rig, "gateway_stopping")
    assert rig.receipt().outcome == "cancelled"


async def test_slow_caller_pauses_the_provider() -> None:
    rig = stream()
    await rig.begin()
    rig.delivery.pause()
    assert rig.response.paused
    rig.delivery.resume()
    assert not rig.response.paused


async def test_provider_that_a_slow_caller_paused_may_still_come_to_its_end() -> None:
    rig = stream()
    await rig.begin()
    rig.response.feed(TEXT)
    rig.delivery.pause()
    rig.response.feed(DONE)
    await rig.carried()
    delivering = asyncio.create_task(rig.delivery.complete(rig.receipt()))
    await asyncio.wait([delivering], timeout=0)
    assert not rig.response.paused
    rig.response.end()
    await delivering
    assert rig.caller.finished is True


async def test_whole_answer_is_sent_after_its_settlement() -> None:
    body = b'{"model":"gpt-5.4-mini","usage":{"prompt_tokens":1,"completion_tokens":2}}'
    rig = buffered(body)
    await rig.delivery.transfer()
    assert rig.caller.body == b""
    await rig.delivery.complete(receipt := rig.receipt())
    assert (rig.caller.status, rig.caller.body) == (200, body)
    assert (receipt.usage, receipt.cost_nano) == (Usage(input_tokens=1, output_tokens=2), 21)


async def test_secret_of_the_credential_does_not_come_back() -> None:
    rig = buffered(b'{"error":{"message":"bad key ' + CREDENTIAL.secret + b'"}}', status=401)
    await rig.delivery.transfer()
    await rig.delivery.complete(rig.receipt())
    assert CREDENTIAL.secret not in rig.caller.body
    assert b"[removed]" in rig.caller.body


@pytest.mark.parametrize("body", [b"<html>oops", b"", b"[1]", b'{"cut":'])
async def test_answer_that_is_no_json_object_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidProviderResponseError):
        await buffered(body).delivery.transfer()


async def test_answer_that_stalls_is_told_as_a_timeout() -> None:
    with pytest.raises(ProviderTimeoutError):
        await buffered(egress.IdleTimeoutError("still")).delivery.transfer()


async def test_error_that_claims_to_be_a_stream_is_passed_on_as_an_error() -> None:
    rig = buffered(b'{"error":{"code":"bad"}}', status=400, headers=SSE)
    await rig.delivery.transfer()
    await rig.delivery.complete(rig.receipt())
    assert (rig.caller.status, rig.caller.body) == (400, b'{"error":{"code":"bad"}}')


@pytest.mark.parametrize("status", [204, 304])
async def test_answer_that_can_have_no_body_is_sent_without_one(status: int) -> None:
    call = make_call("/files/file-1", method="GET", body=b"")
    rig = Rig(make_state(call), FakeResponse(status))
    await rig.delivery.transfer()
    await rig.delivery.complete(rig.receipt())
    assert (rig.caller.status, rig.caller.body, rig.caller.finished) == (status, b"", True)
