"""Answers that are streams of server-sent events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from headgate.kit.errors import HeadgateError

MEDIA_TYPE = "text/event-stream"


class ServerSentEvents:
    """Send events as they come. The first piece is there before the answer begins, so errors have a
    status."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._first = b""

    async def begin(self) -> ServerSentEvents:
        """Make the first piece, and return this. Raise what its maker raises."""
        self._first = await anext(self._pieces, b"")
        return self

    def to_response(self, status: int, headers: dict[str, str]) -> Response:
        # Proxies that buffer would hold single events back.
        named = headers | {"x-accel-buffering": "no"}
        return StreamingResponse(self._send(), status, named, media_type=MEDIA_TYPE)

    async def _send(self) -> AsyncIterator[bytes]:
        if self._first:
            yield self._first
        # The head is sent, so an error can only end the stream: a client asks again, and is told.
        with contextlib.suppress(HeadgateError):
            async for piece in self._pieces:
                yield piece
