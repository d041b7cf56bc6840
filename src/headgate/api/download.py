"""Answers that are files: sent piece by piece, and never whole in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse


class Download:
    """Send a file. Its first piece is there before the answer begins, so errors have a status."""

    def __init__(self, name: str, media_type: str, pieces: AsyncIterator[bytes]) -> None:
        self._name = name
        self._media_type = media_type
        self._pieces = pieces
        self._first = b""

    async def begin(self) -> Download:
        """Make the first piece, and return this. Raise what its maker raises."""
        self._first = await anext(self._pieces, b"")
        return self

    def to_response(self, status: int, headers: dict[str, str]) -> Response:
        disposition = {"content-disposition": f'attachment; filename="{self._name}"'}
        return StreamingResponse(
            self._send(), status, headers | disposition, media_type=self._media_type
        )

    async def _send(self) -> AsyncIterator[bytes]:
        if self._first:
            yield self._first
        async for piece in self._pieces:
            if piece:
                yield piece
