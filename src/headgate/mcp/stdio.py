"""Connect a client that starts programs to a running server: lines of JSON in, lines of JSON out.

Each line is sent to `/mcp` as a request of its own, with the headers that its era wants. Nothing is
kept but the version that a handshake agreed on.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.errors import EgressError
from headgate.kit.http.message import Client, Headers, Origin, Request, Response, Timeouts
from headgate.llm import sse

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""The member that the header `mcp-name` repeats, by method."""
CANCELLED = "notifications/cancelled"
RUNNING_MAX = 64
ANSWER_BYTES_MAX = 32 * 1024 * 1024
TIMEOUTS = Timeouts(first_byte_seconds=3_600.0, idle_seconds=3_600.0, total_seconds=3_600.0)
"""The server bounds each call itself."""
REFUSED = -32000
PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")

Json = dict[str, Any]
WriteLine = Callable[[bytes], None]


class BridgeAddressError(HeadgateError):
    """The address of the server that `headgate mcp` was given is not one of HTTP.

    Give the address of a server as `--url` or HEADGATE_URL, such as `http://127.0.0.1:4600`.
    """

    kind = Kind.INVALID
    code = "invalid_server_address"


class StdioBridge:
    """Send messages to the server, and write what it answers."""

    def __init__(
        self, client: Client, origin: Origin, target: bytes, key: str, write: WriteLine
    ) -> None:
        self._client = client
        self._origin = origin
        self._target = target
        self._key = key
        self._write = write
        self._version = ""
        self._running: dict[str | int, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(RUNNING_MAX)

    async def run(self, lines: AsyncIterator[bytes]) -> None:
        """Work until the lines end, and then until the last answer is written."""
        async with asyncio.TaskGroup() as group:
            async for line in lines:
                if line.strip():
                    await self._take(line, group)

    async def _take(self, line: bytes, group: asyncio.TaskGroup) -> None:
        try:
            message = msgspec.json.decode(line, type=Json)
        except (ValueError, RecursionError):
            self._write_error(None, "The line is not a JSON object.", code=-32700)
            return
        if message.get("method") == CANCELLED:
            self._cancel(message)
            return
        if message.get("method") == "initialize":
            # What follows is sent with the version that this agrees on.
            await self._exchange(message)
            return
        await self._places.acquire()
        task = group.create_task(self._exchange(message))
        task.add_done_callback(lambda _task: self._places.release())
        request_id = message.get("id")
        if isinstance(request_id, str | int):
            self._running[request_id] = task
            task.add_done_callback(lambda ended: self._forget(request_id, ended))

    def _forget(self, request_id: str | int, ended: asyncio.Task[None]) -> None:
        # A client may use an id again before its first request has ended.
        if self._running.get(request_id) is ended:
            del self._running[request_id]

    def _cancel(self, message: Json) -> None:
        """End a request by closing its connection, which is how the server is told."""
        request_id = read_members(message, "params").get("requestId")
        task = self._running.get(request_id) if isinstance(request_id, str | int) else None
        if task is not None:
            task.cancel()

    async def _exchange(self, message: Json) -> None:
        request_id = message.get("id")
        try:
            body = msgspec.json.encode(message)
            headers = self._build_headers(message)
            response = await self._client.send(
                Request(self._origin, b"POST", self._target, headers, body, TIMEOUTS)
            )
            async for answer in read_messages(response):
                self._pass_on(message, answer)
        except (EgressError, ValueError, RecursionError) as error:
            self._write_error(
                request_id,
                f"The server at {self._origin} does not answer ({error}). Start it with "
                "`headgate serve`, or name another one with --url.",
            )

    def _pass_on(self, message: Json, answer: Json) -> None:
        if message.get("method") == "initialize":
            self._version = str(read_members(answer, "result").get("protocolVersion", ""))
        if "method" not in answer and answer.get("id") is None:
            answer["id"] = message.get("id")
            if answer["id"] is None:
                return
        self._write(msgspec.json.encode(answer))

    def _build_headers(self, message: Json) -> Headers:
        headers = [
            (b"authorization", b"Bearer " + self._key.encode()),
            (b"accept", b"application/json, text/event-stream"),
            (b"content-type", b"application/json"),
        ]
        params = read_members(message, "params")
        method = str(message.get("method", ""))
        version = read_members(params, "_meta").get(VERSION_KEY)
        if version is None:
            if self._version and method != "initialize":
                headers.append((b"mcp-protocol-version", self._version.encode()))
            return headers
        headers += [
            (b"mcp-protocol-version", encode_value(version)),
            (b"mcp-method", encode_value(method)),
        ]
        if method in NAMED_BY:
            headers.append((b"mcp-name", encode_value(params.get(NAMED_BY[method]))))
        return headers

    def _write_error(self, request_id: Any, text: str, *, code: int = REFUSED) -> None:
        error = {"code": code, "message": text}
        self._write(msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "error": error}))


def read_members(message: Json, name: str) -> Json:
    """Return a member that is an object; an empty one where it is something else, which is for the
    server to refuse."""
    value = message.get(name)
    return cast("Json", value) if isinstance(value, dict) else {}


def encode_value(value: object) -> bytes:
    """Return a value of a header; what is not plain text is in base64, as MCP writes it."""
    text = str(value)
    if PLAIN.fullmatch(text) and not text.startswith("=?base64?"):
        return text.encode()
    return b"=?base64?" + base64.b64encode(text.encode()) + b"?="


async def read_messages(response: Response) -> AsyncIterator[Json]:
    """Yield the messages of an answer in either form, as they arrive."""
    kinds = [value for name, value in response.headers if name == b"content-type"]
    if kinds and kinds[0].startswith(b"text/event-stream"):
        async for data in read_events(response):
            yield msgspec.json.decode(data, type=Json)
        return
    body = await response.read(ANSWER_BYTES_MAX)
    if body.strip():
        yield msgspec.json.decode(body, type=Json)
    elif response.status >= 400:
        error = {"code": REFUSED, "message": f"The server answered {response.status}."}
        yield {"jsonrpc": "2.0", "id": None, "error": error}


async def read_events(response: Response) -> AsyncIterator[bytes]:
    """Yield the data of each event of a stream that has any."""
    pieces = PieceQueue(response)
    buffer = bytearray()
    start = 0
    async for piece in pieces:
        buffer += piece
        if len(buffer) > ANSWER_BYTES_MAX:
            response.abort()
            raise ValueError("an event of its answer is too large")
        used = 0
        for end in sse.find_ends(buffer, start):
            event = sse.parse_event(bytes(buffer[used:end]))
            used = end
            if event.data:
                yield event.data
        del buffer[:used]
        start = sse.next_search_offset(buffer)


class PieceQueue:
    """Hand over the pieces of a body to a task (`kit.http.message.Sink`)."""

    def __init__(self, response: Response) -> None:
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._response = response
        response.stream(self)

    def on_data(self, data: bytes) -> None:
        self._queue.put_nowait(data)

    def on_end(self) -> None:
        self._queue.put_nowait(None)

    def on_failure(self, error: Exception) -> None:
        self._queue.put_nowait(error)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (piece := await self._queue.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        except BaseException:
            self._response.abort()
            raise
