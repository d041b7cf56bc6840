"""Carry requests for the ASGI application on a connection of the edge, by uvicorn's cycle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

REFUSED_BODY_BYTES_MAX = 64 * 1024
"""How much of a body is read after its request was answered; the connection of a client that
announces more, or that waits for 100 Continue, is closed."""

Message = dict[str, Any]
App = Callable[[Any, Any, Callable[[Message], Awaitable[None]]], Awaitable[None]]


class CycleConnection(Protocol):
    """Carry the cycles of the ASGI application; the edge's protocol implements it."""

    transport: Any

    def end_cycle(self, cycle: RequestResponseCycle) -> None:
        """Close the connection: its last response is written."""
        ...


class CycleTransport:
    """Let the connection linger where a cycle closes the transport."""

    def __init__(self, connection: CycleConnection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle

    def write(self, data: bytes) -> None:
        self._connection.transport.write(data)

    def is_closing(self) -> bool:
        return self._connection.transport.is_closing()

    def close(self) -> None:
        self._connection.end_cycle(self._cycle)


class EarlyResponseMiddleware:
    """Close the connection after a response that began before the whole body had arrived."""

    def __init__(self, app: App, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_on(message: Message) -> None:
            cycle = self._cycle
            if message["type"] == "http.response.start" and cycle.more_body:
                cycle.keep_alive = cycle.keep_alive and not (
                    cycle.waiting_for_100_continue or may_be_large(scope["headers"])
                )
            await send(message)

        await self._app(scope, receive, send_on)


def may_be_large(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether the announced body is not worth reading, or of unknown length."""
    lengths = [int(value) for name, value in headers if name == b"content-length"]
    return not lengths or lengths[0] > REFUSED_BODY_BYTES_MAX
