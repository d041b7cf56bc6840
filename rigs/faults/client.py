"""A client of plain sockets, many of them on one loop, that reads an answer to its very end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import Any, cast

KEPT_BYTES_MAX = 32 << 20
READ_BYTES = 1 << 18


@dataclass
class ReceivedResponse:
    """Hold an answer; `whole` if its framing came to its end; `head` as it came."""

    status: int = 0
    head: bytes = b""
    body: bytes = b""
    body_bytes: int = 0
    whole: bool = False
    seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def error(self) -> dict[str, Any] | None:
        """Return the error object of the body, or None."""
        try:
            return cast("dict[str, Any]", dict(json.loads(self.body)["error"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


async def ask(port: int, request: bytes) -> ReceivedResponse:
    """Send a request on a connection of its own and read the whole answer."""
    response = ReceivedResponse()
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
    try:
        writer.write(request)
        # An answer that is cut short is judged by what is missing.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            await _read_response(reader, response)
    finally:
        response.seconds = time.monotonic() - started
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return response


async def _read_response(reader: asyncio.StreamReader, response: ReceivedResponse) -> None:
    response.head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = response.head.decode("latin-1").rstrip("\r\n").split("\r\n")
    response.status = int(first.split(" ")[1])
    pairs = (line.partition(": ") for line in lines)
    response.headers = {name.lower(): value for name, _, value in pairs}
    pieces: list[bytes] = []
    try:
        if response.headers.get("transfer-encoding") == "chunked":
            while (size := int(await reader.readline(), 16)) > 0:
                await _take(reader, size, response, pieces)
                await reader.readexactly(2)
            await reader.readexactly(2)
        else:
            await _take(reader, int(response.headers["content-length"]), response, pieces)
        response.whole = True
    finally:
        response.body = b"".join(pieces)


async def _take(
    reader: asyncio.StreamReader, size: int, response: ReceivedResponse, pieces: list[bytes]
) -> None:
    while size:
        data = await reader.read(min(size, READ_BYTES))
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(data)
        response.body_bytes += len(data)
        if response.body_bytes <= KEPT_BYTES_MAX:
            pieces.append(data)


def render(
    method: str, target: str, headers: dict[str, str], body: dict[str, Any] | None = None
) -> bytes:
    """Return the bytes of a request that closes its connection."""
    data = b"" if body is None else json.dumps(body).encode()
    given = {"host": "127.0.0.1", "connection": "close", **headers}
    if body is not None:
        given |= {"content-type": "application/json", "content-length": str(len(data))}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode() + data
