"""A request of the ASGI application on a connection of the edge, as uvicorn's cycle answers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

REFUSED_BODY_BYTES_MAX = 64 * 1024
"""What is read of the body of a request that is answered already; one that announces more, or that
waits to be asked for it, ends the connection."""

Message = dict[str, Any]
App = Callable[[Any, Any, Callable[[Message], Awaitable[None]]], Awaitable[None]]


class CycleConnection(Protocol):
    """What a cycle needs of its connection."""

    transport: Any

    def end_cycle(self, cycle: RequestResponseCycle) -> None:
        """The last answer of the connection is written."""
        ...


class CycleTransport:
    """The transport as a cycle sees it: closing is left to the connection, which may linger."""

    def __init__(self, connection: CycleConnection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle

    def write(self, data: bytes) -> None:
        """Put bytes on the wire."""
        self._connection.transport.write(data)

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._connection.transport.is_closing()

    def close(self) -> None:
        """End the connection after this answer."""
        self._connection.end_cycle(self._cycle)


class EarlyResponseMiddleware:
    """An ASGI application whose connection ends where it answers before it has the whole body."""

    def __init__(self, app: App, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""

        async def send_on(message: Message) -> None:
            cycle = self._cycle
            if message["type"] == "http.response.start" and cycle.more_body:
                cycle.keep_alive = cycle.keep_alive and not (
                    cycle.waiting_for_100_continue or is_large(scope["headers"])
                )
            await send(message)

        await self._app(scope, receive, send_on)


def is_large(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a body is announced that is not worth reading, or that may be of any length."""
    lengths = [int(value) for name, value in headers if name == b"content-length"]
    return not lengths or lengths[0] > REFUSED_BODY_BYTES_MAX
