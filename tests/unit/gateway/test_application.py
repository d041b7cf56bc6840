"""Requests to the ASGI application: limits of their bodies, and their order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headgate.gateway.exchange import InboundExchange
from headgate.gateway.protocol import CONTINUE, CONTROL_BODY_BYTES_MAX
from tests.fakes.edge_connection import (
    BAD,
    CHUNKED,
    CONTROL,
    GET,
    EchoHandler,
    Gate,
    ScriptedHandler,
    post,
    talk,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class App:
    """An ASGI application that reads the body, and answers with method, path and body."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": scope["raw_path"]})


async def test_other_requests_reach_the_application_in_order() -> None:
    app, gate = App(), Gate()
    connection = await talk(
        GET + CONTROL + post(3, target=b"/y") + b"abc", handler=ScriptedHandler(gate), app=app
    )
    assert app.scopes == []
    assert connection.protocol.deadline == 0.0
    gate.open.set()
    await connection.settle()
    await connection.send(CONTROL)
    await connection.settle()
    assert connection.statuses == [200, 201, 201, 201]
    assert [scope["path"] for scope in app.scopes] == ["/x", "/y", "/x"]
    assert app.bodies == [b"", b"abc", b""]
    assert app.scopes[1]["headers"] == [(b"host", b"a"), (b"content-length", b"3")]
    assert app.scopes[0]["client"] == ("127.0.0.1", 5)
    assert app.scopes[0]["state"] == {}
    await connection.close()


@pytest.mark.parametrize(
    ("target", "is_platform"),
    [
        *(
            (each, True)
            for each in (b"/v1/usage", b"/v1/usage?a=/x", b"/v1/wallet/x", b"/v1/budgets")
        ),
        *((each, True) for each in (b"/v1/webhooks/endpoints/we_1?x", b"/v1/receipts/")),
        *(
            (each, False)
            for each in (b"/v1/usages", b"/v1/webhook_endpoints", b"/v1/wall", b"/v1/")
        ),
        *((each, False) for each in (b"/v1/USAGE", b"/v1/%75sage", b"/v1//usage", b"/v1/x/usage")),
        *(
            (each, False)
            for each in (b"/v1/usage;x", b"/v1/budget", b"/v1/usage%2Fx", b"/v1/x?usage")
        ),
    ],
)
async def test_own_paths_of_the_platform_reach_the_application(
    target: bytes, is_platform: bool
) -> None:
    app, handler = App(), EchoHandler()
    connection = await talk(post(3, target=target) + b"abc", handler=handler, app=app)
    await connection.settle()
    assert [scope["raw_path"] for scope in app.scopes] == [target.split(b"?")[0]] * is_platform
    assert handler.seen == [(b"POST", target, b"abc")] * (not is_platform)
    await connection.close()


async def test_application_that_reads_the_body_triggers_100_continue() -> None:
    connection = await talk(post(3, b"expect: 100-continue", target=b"/y"), app=App())
    assert connection.transport.written == CONTINUE
    await connection.send(b"abc")
    await connection.settle()
    assert connection.statuses == [100, 201]
    await connection.close()
    connection = await talk(post(3, target=b"/y"), app=App())
    assert connection.transport.written == b""
    await connection.close()


@pytest.mark.parametrize("excess", [0, 1])
async def test_application_gets_bodies_up_to_the_limit(excess: int) -> None:
    app, handler = App(), EchoHandler()
    length = CONTROL_BODY_BYTES_MAX + excess
    connection = await talk(post(length, target=b"/y"), handler=handler, app=app)
    for start in range(0, length, 65_536):
        await connection.send(b"x" * min(65_536, length - start))
        await connection.settle()
    assert [len(body) for body in app.bodies] == ([] if excess else [length])
    assert connection.statuses == [413 if excess else 201]
    assert connection.transport.half_closed is bool(excess)
    await connection.close()
    await connection.settle()


async def test_malformed_request_of_the_application_gets_400_and_is_closed() -> None:
    app = App()
    connection = await talk(CHUNKED.replace(b"/v1/x", b"/y") + BAD, app=app)
    assert connection.statuses == [400]
    connection.wait(3)
    assert connection.transport.closed
    await connection.close()
    await connection.settle()
    assert app.bodies == []


async def test_options_asterisk_goes_to_the_application() -> None:
    app = App()
    connection = await talk(CONTROL.replace(b"GET /x", b"OPTIONS *"), app=app)
    assert [scope["raw_path"] for scope in app.scopes] == [b"*"]
    await connection.close()


async def answer_at_once(scope: Any, receive: Any, send: Any) -> None:
    """Answer without reading the body."""
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"no"})


async def test_slow_body_gets_408_and_is_closed() -> None:
    app, handler = App(), EchoHandler()
    connection = await talk(post(100_000, target=b"/api/x"), handler=handler, app=app)
    await connection.send(b"x" * 10)
    connection.wait(10.1)
    await connection.settle()
    assert [each.code for each in handler.refusals] == ["request_timeout"]
    assert connection.statuses == [408]
    connection.wait(3)
    assert connection.transport.closed
    assert app.bodies == []
    await connection.close()


async def test_slow_body_of_a_pipelined_request_is_closed() -> None:
    app = App()
    connection = await talk(CONTROL + post(1000, target=b"/api/x") + b"x", app=app)
    assert connection.statuses == [201]
    connection.wait(10.1)
    await connection.settle()
    assert connection.statuses == [201, 408]
    await connection.close()


async def test_slow_body_of_an_answered_request_is_closed_in_time_and_a_whole_one_kept() -> None:
    connection = await talk(post(1000, target=b"/nothing") + b"x", app=answer_at_once)
    assert connection.statuses == [413]
    assert not connection.transport.closed
    connection.wait(10.1)
    assert connection.transport.closed
    await connection.close()
    connection = await talk(post(3, target=b"/nothing"), b"abc", GET, app=answer_at_once)
    assert connection.statuses == [413, 200]
    await connection.close()


@pytest.mark.parametrize(
    "head",
    [
        post(5, b"expect: 100-continue", target=b"/api/x"),
        post(2_000_000, b"expect: 100-continue", target=b"/api/x"),
        post(2_000_000, target=b"/api/x"),
        CHUNKED.replace(b"/v1/x", b"/api/x"),
    ],
)
async def test_answer_before_an_unread_body_closes_the_connection(head: bytes) -> None:
    handler = EchoHandler()
    connection = await talk(head, handler=handler, app=answer_at_once)
    assert connection.statuses == [413]
    assert b"connection: close\r\n" in connection.transport.written
    assert (connection.transport.half_closed, connection.transport.closed) == (True, False)
    await connection.send(b"x" * 1000 + GET)
    await connection.settle()
    assert handler.seen == []
    connection.wait(3)
    assert connection.transport.closed
    await connection.close()


@pytest.mark.parametrize("raw", [CONTROL, b"GET /v1/x HTTP/1.0\r\n\r\n"])
async def test_half_closed_client_gets_the_answer_without_an_interim_response(raw: bytes) -> None:
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await answer_at_once(scope, receive, send)

    async def script(exchange: InboundExchange) -> None:
        await gate.wait()
        exchange.answer(413, b"", b"no")

    connection = await talk(raw, handler=ScriptedHandler(script), app=app)
    assert connection.protocol.eof_received() is True
    connection.loop.move(5)
    assert connection.transport.written == b""
    gate.set()
    await connection.settle()
    assert connection.statuses == [413]
    assert connection.transport.written.endswith(b"no")
    assert connection.transport.closed
    await connection.close()
