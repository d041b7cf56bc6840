"""The bridge from standard input and output to a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from headgate.kit.http.errors import ConnectError
from headgate.kit.http.message import Origin, Request, Sink
from headgate.mcp.stdio import VERSION_KEY, StdioBridge, encode_value
from tests.fakes.mcp import ENVELOPE

pytestmark = pytest.mark.anyio
ORIGIN = Origin("http", "127.0.0.1", 4600)
EVENTS = b"text/event-stream"


class FakeResponse:
    def __init__(self, *pieces: bytes, status: int = 200, kind: bytes = b"application/json"):
        self.status = status
        self.headers = [(b"content-type", kind)]
        self.pieces = pieces
        self.aborted = False

    async def read(self, bytes_max: int, hold: Callable[[int], None] | None = None) -> bytes:
        return b"".join(self.pieces)

    def stream(self, sink: Sink) -> None:
        for piece in self.pieces:
            sink.on_data(piece)
        sink.on_end()

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True


class FakeServer:
    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.answer = answer
        self.requests: list[Request] = []

    async def send(self, request: Request) -> Any:
        self.requests.append(request)
        assert isinstance(request.body, bytes)
        answer = self.answer(json.loads(request.body))
        return await answer if asyncio.iscoroutine(answer) else answer

    def list_headers(self, number: int) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.requests[number].headers}


def reply(message: Any, result: Any = None) -> FakeResponse:
    body: Any = {"jsonrpc": "2.0", "id": message["id"], "result": result or {}}
    return FakeResponse(json.dumps(body).encode())


async def talk(server: FakeServer, messages: Sequence[Any]) -> list[Any]:
    written: list[bytes] = []

    async def lines() -> AsyncIterator[bytes]:
        for message in messages:
            yield message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
            for _ in range(5):
                await asyncio.sleep(0)

    bridge = StdioBridge(server, ORIGIN, b"/mcp", "hg_live_x", written.append)
    await bridge.run(lines())
    assert not any(b"\n" in each for each in written)
    return [json.loads(each) for each in written]


def ask(number: int, method: str, **params: Any) -> Any:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


async def test_a_handshake_decides_the_version_of_what_follows() -> None:
    server = FakeServer(lambda message: reply(message, {"protocolVersion": "2025-06-18"}))
    answers = await talk(server, [ask(1, "initialize"), b"\n", ask(2, "tools/list")])
    assert [each["id"] for each in answers] == [1, 2]
    assert "mcp-protocol-version" not in server.list_headers(0)
    assert server.list_headers(1)["mcp-protocol-version"] == "2025-06-18"
    assert server.list_headers(1)["authorization"] == "Bearer hg_live_x"
    assert server.requests[1].target == b"/mcp"


async def test_a_message_without_a_handshake_gets_the_headers_that_repeat_it() -> None:
    server = FakeServer(reply)
    await talk(server, [ask(1, "tools/call", name="é", arguments={}, _meta=ENVELOPE)])
    headers = server.list_headers(0)
    assert headers["mcp-protocol-version"] == "2026-07-28"
    assert headers["mcp-method"] == "tools/call"
    assert headers["mcp-name"] == "=?base64?w6k=?="
    assert encode_value("plain name") == b"plain name"
    assert encode_value(" edge").startswith(b"=?base64?")


async def test_a_stream_is_passed_on_message_by_message() -> None:
    progress = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{}}'
    answer = b'{"jsonrpc":"2.0","id":1,"result":{}}'
    stream = b"event: message\r\ndata: " + progress + b"\r\n\r\n: ping\r\n\r\ndata: " + answer
    pieces = [bytes([each]) for each in stream + b"\r\n\r\n"]
    server = FakeServer(lambda _message: FakeResponse(*pieces, kind=EVENTS))
    answers = await talk(server, [ask(1, "tools/call")])
    assert answers == [json.loads(progress), json.loads(answer)]


async def test_an_error_without_an_id_is_the_answer_to_its_request() -> None:
    refusal = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"No key."}}'
    server = FakeServer(lambda _message: FakeResponse(refusal, status=401))
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    [answer] = await talk(server, [notification, ask(7, "tools/list")])
    assert (answer["id"], answer["error"]["message"]) == (7, "No key.")


async def test_a_server_that_does_not_answer_is_named_with_what_to_do() -> None:
    async def fail(_message: Any) -> Any:
        raise ConnectError("refused")

    answers = await talk(FakeServer(fail), [b"{bad\n", b"[]\n", ask(1, "tools/list")])
    assert [each["error"]["code"] for each in answers] == [-32700, -32700, -32000]
    assert "headgate serve" in answers[-1]["error"]["message"]


async def test_a_cancelled_request_is_closed_and_others_go_on() -> None:
    closed = asyncio.Event()

    async def wait(message: Any) -> Any:
        if message["id"] == 2:
            return reply(message)
        try:
            await asyncio.Event().wait()
        finally:
            closed.set()

    cancel = {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": 1},
    }
    answers = await talk(FakeServer(wait), [ask(1, "tools/call"), ask(2, "ping"), cancel])
    assert closed.is_set()
    assert [each["id"] for each in answers] == [2]


@pytest.mark.parametrize(
    "line",
    [
        *(b'{"id":1,"method":"tools/call","params":[1]}', b'{"id":1,"method":7,"params":"x"}'),
        *(b'{"id":1,"method":"tools/call","params":{"_meta":"x"}}', b'{"id":[1],"method":"ping"}'),
        b'{"id":1,"method":"tools/call","params":{"_meta":{"%s":{"a":[]}}}}' % VERSION_KEY.encode(),
        *(b"[" * 100_000, b'{"a":' * 5_000, b'{"id":1,"method":"\xff"}', b'{"id":1e999}'),
        b'{"method":"notifications/cancelled","params":[{}]}',
        b'{"method":"notifications/cancelled","params":{"requestId":{}}}',
    ],
)
async def test_no_line_ends_the_bridge(line: bytes) -> None:
    server = FakeServer(lambda message: reply({"id": message.get("id")}))
    answers = await talk(server, [line + b"\n", ask(9, "tools/list")])
    assert answers[-1] == {"jsonrpc": "2.0", "id": 9, "result": {}}


@pytest.mark.parametrize(
    "answer", [b"[]", b'{"id":1,"result":[]}', b'{"id":1,"result":7}', b"[" * 100_000, b"\xff"]
)
async def test_no_answer_ends_the_bridge(answer: bytes) -> None:
    server = FakeServer(
        lambda message: FakeResponse(answer) if message["id"] == 1 else reply(message)
    )
    answers = await talk(server, [ask(1, "initialize"), ask(9, "tools/list")])
    assert answers[-1] == {"jsonrpc": "2.0", "id": 9, "result": {}}
