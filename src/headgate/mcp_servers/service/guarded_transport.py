"""Carries the requests of the SDK's client through the one egress door, within limits.

Import it on first use only: `httpx2` is loaded with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import httpx2

from headgate import __version__
from headgate.kit.errors import HeadgateError, drop_trace
from headgate.kit.http.errors import (
    ConnectCancelledError,
    EgressError,
    FirstByteTimeoutError,
    ForbiddenAddressError,
    IdleTimeoutError,
    ResponseTooLargeError,
    TotalTimeoutError,
)
from headgate.kit.http.message import Client, Headers, Request, Response, Timeouts
from headgate.mcp_servers.model.errors import McpServerFailedError, McpServerTimedOutError
from headgate.mcp_servers.model.json_parts import JsonPartCount
from headgate.mcp_servers.service.servers import PURPOSE
from headgate.mcp_servers.service.targets import McpTarget

CONNECT_SECONDS = 10.0
REQUESTS_MAX = 40
"""Requests of one session: the handshake, the pages of a list, one call, some resumptions."""
PARTS_MAX = 80_000
"""Texts, brackets and commas of one answer: so many are validated within about a second."""
SESSION_END_SECONDS = 5.0
CHUNKS_MAX = 64
"""Chunks of a body that wait for their reader before the server has to wait."""
SESSION_HEADER = "mcp-session-id"
USER_AGENT = f"Headgate/{__version__}"
_SET_BY_CLIENT = frozenset(
    {"host", "content-length", "connection", "transfer-encoding", "accept-encoding", "user-agent"}
)
_TIMEOUTS = (FirstByteTimeoutError, IdleTimeoutError, TotalTimeoutError)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Send requests of one session to one server. `failure` is the first thing that went wrong, of
    which the SDK tells less; `status` is the last status that was an error."""

    def __init__(self, client: Client, target: McpTarget, *, bytes_max: int) -> None:
        self._client = client
        self._target = target
        self._bytes_left = bytes_max
        self._bytes_max = bytes_max
        self._requests = 0
        self._session_id = ""
        self._session_headers: Headers = []
        self.failure: HeadgateError | None = None
        self.status = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET" and "last-event-id" not in request.headers:
            # No stream of messages beside the answers: nobody here would read them.
            return httpx2.Response(405, request=request)
        self._requests += 1
        if self._requests > REQUESTS_MAX:
            raise self._fail(f"the session took more than {REQUESTS_MAX} requests")
        if not self._is_within_origin(request.url):
            raise self._fail("it redirects to another origin")
        headers = self._build_headers(request.headers)
        response = await self._send(request.method, request.url.raw_path, headers, request.content)
        return self._accept(request, response, headers)

    def _is_within_origin(self, url: httpx2.URL) -> bool:
        origin = self._target.origin
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
        return (url.scheme, url.host, port) == (origin.scheme, origin.host, origin.port)

    async def _send(self, method: str, path: bytes, headers: Headers, body: bytes) -> Response:
        seconds = self._target.timeout_seconds
        sent = Request(
            origin=self._target.origin,
            method=method.encode(),
            target=path,
            headers=headers,
            body=body,
            timeouts=Timeouts(min(CONNECT_SECONDS, seconds), seconds, seconds, seconds),
            purpose=PURPOSE,
        )
        try:
            return await self._client.send(sent)
        except ConnectCancelledError as error:
            # So that the scope that cancels recognizes its own cancellation.
            raise asyncio.CancelledError(*error.args) from None
        except (EgressError, ValueError) as error:
            raise self.note(error) from None

    def _accept(
        self, request: httpx2.Request, response: Response, headers: Headers
    ) -> httpx2.Response:
        """Return the answer for the SDK; its body is read later, within the limit."""
        answered = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers
        ]
        found = dict(answered)
        if found.get("content-encoding", "identity").lower() not in ("", "identity"):
            response.abort()
            raise self._fail("it compresses its answers without being asked to")
        if response.status >= 400:
            self.status = response.status
        if SESSION_HEADER in found and not self._session_id:
            self._session_id = found[SESSION_HEADER]
            self._session_headers = headers
        return httpx2.Response(
            response.status,
            headers=answered,
            stream=_Body(response, self),
            request=request,
        )

    def count(self, size: int) -> bool:
        """Count bytes of an answer; return whether they are still within the limit."""
        self._bytes_left -= size
        return self._bytes_left >= 0

    def refuse_parts(self) -> None:
        """Note that an answer has too many parts."""
        self._fail(f"an answer has more than {PARTS_MAX} texts, brackets and commas")

    def note(self, error: Exception) -> httpx2.TransportError:
        """Keep an error as what went wrong, and return it in the SDK's words."""
        if isinstance(error, ForbiddenAddressError):
            return self._fail(error.reason)
        if isinstance(error, _TIMEOUTS):
            self.failure = self.failure or drop_trace(
                McpServerTimedOutError("The MCP server did not answer in time.")
            )
            return httpx2.ReadTimeout("timed out")
        if isinstance(error, ResponseTooLargeError):
            return self._fail(f"its answers are larger than {self._bytes_max} bytes")
        return self._fail(str(error).rstrip(".") or type(error).__name__)

    def _fail(self, reason: str) -> httpx2.TransportError:
        message = f"The MCP server cannot be used: {reason[:300]}."
        self.failure = self.failure or drop_trace(McpServerFailedError(message))
        return httpx2.ReadError(message)

    def _build_headers(self, given: Mapping[str, str]) -> Headers:
        """Return the headers of a request: those of the protocol, and those of the server's
        registration, which win over nothing of the protocol."""
        headers = {
            name.lower(): value
            for name, value in given.items()
            if name.lower() not in _SET_BY_CLIENT
        }
        headers = {**self._target.headers, **headers}
        headers["user-agent"] = USER_AGENT
        headers["accept-encoding"] = "identity"
        return [
            (name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()
        ]

    async def end_session(self) -> None:
        """Tell a server of the older era that its session is over, if it began one."""
        if not self._session_id:
            return
        kept = [(name, value) for name, value in self._session_headers if name != b"content-type"]
        headers = [*kept, (SESSION_HEADER.encode(), self._session_id.encode("latin-1"))]
        with contextlib.suppress(Exception):
            async with asyncio.timeout(SESSION_END_SECONDS):
                response = await self._send("DELETE", self._target.target, headers, b"")
                await response.read(64 * 1024)


class _Body(httpx2.AsyncByteStream):
    """Pass a body on as it arrives. Implements `kit.http.message.Sink`."""

    def __init__(self, response: Response, transport: GuardedTransport) -> None:
        self._response = response
        self._transport = transport
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._error: Exception | None = None
        self._is_paused = False
        self._parts = JsonPartCount()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._response.stream(self)
        while (chunk := await self._chunks.get()) is not None:
            if self._is_paused and self._chunks.qsize() < CHUNKS_MAX // 2:
                self._is_paused = False
                self._response.resume()
            yield chunk
        error, self._error = self._error, None
        if error is not None:
            raise self._transport.note(error)

    async def aclose(self) -> None:
        self._response.abort()

    def on_data(self, data: bytes) -> None:
        if self._error is not None:
            return
        has_few_parts = self._parts.add(data, PARTS_MAX)
        if not has_few_parts:
            self._transport.refuse_parts()
        if not self._transport.count(len(data)) or not has_few_parts:
            self._error = ResponseTooLargeError()
            self._response.abort()
            self._chunks.put_nowait(None)
            return
        self._chunks.put_nowait(data)
        if self._chunks.qsize() >= CHUNKS_MAX and not self._is_paused:
            self._is_paused = True
            self._response.pause()

    def on_end(self) -> None:
        self._chunks.put_nowait(None)

    def on_failure(self, error: Exception) -> None:
        self._error = drop_trace(error)
        self._chunks.put_nowait(None)
