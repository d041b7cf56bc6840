"""A connection of the edge without a socket: bytes in, bytes out, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from headgate.gateway.cors import CorsPolicy
from headgate.gateway.edge import Edge
from headgate.gateway.exchange import InboundExchange
from headgate.gateway.forwarding import parse_networks
from headgate.gateway.hosts import HostAllowlist
from headgate.gateway.limits import EdgeLimits
from headgate.gateway.protocol import EdgeProtocol
from headgate.kit.errors import HeadgateError

GET = b"GET /v1/x HTTP/1.1\r\nhost: a\r\n\r\n"
CONTROL = GET.replace(b"/v1/x", b"/x")
CHUNKED = b"POST /v1/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
BAD = b"x\r\n\r\n"
READ_BYTES = 64 * 1024
"""What a loop reads of a socket at once."""
Peer = tuple[str, int]
Seen = tuple[bytes, bytes, bytes]
"""Method, target and body of a request."""


class EchoHandler:
    """Answer every request with its body, and record the requests."""

    def __init__(self, body_bytes_max: int = 4096) -> None:
        self.seen: list[Seen] = []
        self.refusals: list[HeadgateError] = []
        self.refusing: HeadgateError | None = None
        """What every request is refused with by its head."""
        self._body_bytes_max = body_bytes_max

    def open(self, exchange: InboundExchange) -> None:
        exchange.body_bytes_max = self._body_bytes_max
        exchange.expects_continue = (b"expect", b"100-continue") in exchange.headers
        if self.refusing is not None:
            raise self.refusing

    async def run(self, exchange: InboundExchange) -> None:
        body = exchange.take_body()
        self.seen.append((exchange.method, exchange.target, body))
        exchange.answer(200, b"", body)

    def refuse(self, exchange: InboundExchange, error: HeadgateError) -> None:
        self.refusals.append(error)
        exchange.answer(error.kind.value, b"", error.code.encode())


class Gate:
    """A script for a handler that answers once the gate is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, exchange: InboundExchange) -> None:
        await self.open.wait()
        exchange.answer(200, b"", exchange.target)


async def linger(exchange: InboundExchange) -> None:
    """Never answer: a script for a handler."""
    await asyncio.Event().wait()


class ScriptedHandler(EchoHandler):
    """Run a test's functions for every request: `prepare` when it is opened, then `script`."""

    def __init__(
        self,
        script: Callable[[InboundExchange], Awaitable[None]],
        prepare: Callable[[InboundExchange], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self.exchanges: list[InboundExchange] = []
        self._script = script
        self._prepare = prepare

    def open(self, exchange: InboundExchange) -> None:
        self.exchanges.append(exchange)
        super().open(exchange)
        self._prepare(exchange)

    async def run(self, exchange: InboundExchange) -> None:
        await self._script(exchange)


class FakeLoop:
    """Stand in for an event loop; its time moves only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._later: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[..., None], *values: Any) -> None:
        self._later.append((self.now + seconds, callback, values))

    def call_soon(self, callback: Callable[..., None], *values: Any) -> None:
        asyncio.get_running_loop().call_soon(callback, *values)

    def create_task(self, work: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work, **options)

    def move(self, seconds: float) -> None:
        """Let time pass, and run what is due."""
        self.now += seconds
        due = [each for each in self._later if each[0] <= self.now]
        self._later = [each for each in self._later if each[0] > self.now]
        for _, callback, values in due:
            callback(*values)


class FakeTransport(asyncio.Transport):
    """Keep what is written. `paused` says that nothing is read for now.

    `unsent_bytes` is the reported size of its buffer, `half_closed` says whether the edge shut its
    side, `lost` whether the protocol was told of the end.
    """

    def __init__(self, *, is_tls: bool = False, peer: Peer | None = ("127.0.0.1", 5)) -> None:
        super().__init__({"peername": peer, "sockname": ("127.0.0.1", 80)})
        if is_tls:
            self._extra["sslcontext"] = object()
        self.extra: dict[str, Any] = self._extra
        self.written = b""
        self.paused = False
        self.closed = False
        self.aborted = False
        self.lost = False
        self.half_closed = False
        self.can_half_close = True
        self.unsent_bytes = 0
        self.unsent_bytes_max: int | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.lost:  # as uvloop does it, unlike asyncio
            raise RuntimeError("the handler is closed")
        if not self.closed:
            self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def can_write_eof(self) -> bool:
        return self.can_half_close

    def write_eof(self) -> None:
        self.half_closed = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.unsent_bytes_max = high

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass


async def answer_nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stand in for the ASGI application of all requests that are no model calls."""
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class EdgeConnection:
    """Open a connection to an edge with a manual clock; needs a running loop."""

    def __init__(
        self,
        handler: EchoHandler,
        limits: EdgeLimits | None = None,
        *,
        hosts: HostAllowlist | None = None,
        trusted: tuple[str, ...] = (),
        state: ServerState | None = None,
        is_tls: bool = False,
        app: Callable[..., Awaitable[None]] | None = None,
        peer: Peer | None = ("127.0.0.1", 5),
        cors: CorsPolicy | None = None,
    ) -> None:
        self.transport = FakeTransport(is_tls=is_tls, peer=peer)
        self.loop = FakeLoop()
        self.state = state or ServerState()
        edge = Edge(
            handler,
            limits or EdgeLimits(),
            hosts=hosts or HostAllowlist(("*",)),
            trusted_proxies=parse_networks(trusted, allow_any=False),
            cors=cors,
        )
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        self.protocol = EdgeProtocol(CONFIG, self.state, {}, loop, edge=edge)
        if app is not None:
            self.protocol.app = cast("Any", app)
        self.protocol.connection_made(self.transport)

    async def send(self, chunk: bytes) -> None:
        """Send as a socket would: in pieces, and nothing while reading is paused or over."""
        for start in range(0, len(chunk) or 1, READ_BYTES):
            for _ in range(20):
                if not self.transport.paused:
                    break
                await asyncio.sleep(0)
            if chunk and not self.transport.closed and not self.transport.paused:
                self.protocol.data_received(chunk[start : start + READ_BYTES])
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Let the tasks run that can."""
        for _ in range(20):
            await asyncio.sleep(0)

    def wait(self, seconds: float) -> None:
        """Let time pass, and check the deadline once."""
        self.loop.move(seconds)
        if 0.0 < self.protocol.deadline < self.loop.now:
            self.protocol.expire()

    @property
    def statuses(self) -> list[int]:
        """Return the statuses of all responses that were written."""
        return [int(part[:3]) for part in self.transport.written.split(b"HTTP/1.1 ")[1:]]

    async def close(self) -> None:
        """Close from the side of the client."""
        for _ in range(5):
            await asyncio.sleep(0)
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """Tell the protocol of the end of the connection."""
        self.transport.closed = True
        self.protocol.connection_lost(error)
        self.transport.lost = True


CONFIG = Config(cast("Any", answer_nothing), log_config=None, lifespan="off", proxy_headers=False)
CONFIG.load()


def post(length: int, *more: bytes, target: bytes = b"/v1/x") -> bytes:
    """Return the head of a request with a body of so many bytes."""
    lines = [b"POST %b HTTP/1.1" % target, b"host: a", *more, b"content-length: %d" % length]
    return b"\r\n".join([*lines, b"", b""])


async def talk(
    *chunks: bytes, handler: EchoHandler | None = None, app: Any = None
) -> EdgeConnection:
    """Send the chunks over a new connection, and return it when nothing more happens."""
    connection = EdgeConnection(handler or EchoHandler(), app=app)
    for chunk in chunks:
        await connection.send(chunk)
    await connection.settle()
    return connection
