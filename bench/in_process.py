"""A whole gateway in this process, without sockets: its client and its provider are two transports.

Everything between them is what `headgate serve` runs, on an event loop of the same kind, with the
writer's thread and a database of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import uvloop
from uvicorn.config import Config
from uvicorn.server import Server

from headgate.audit.model import SYSTEM
from headgate.billing.service.ledger import fund
from headgate.credentials.model.credential import CredentialRequest
from headgate.data_directory.leftovers import FIRST_KEYS_FILE
from headgate.gateway.edge import Edge
from headgate.gateway.protocol import EdgeProtocol
from headgate.kit.db.schema import read_revisions
from headgate.kit.db.writer import Writer
from headgate.kit.http.client import HttpClient
from headgate.kit.http.connection import UpstreamConnection
from headgate.kit.http.dial import Dialer
from headgate.kit.http.message import Origin
from headgate.kit.private_file import read_private_json
from headgate.main import data_plane
from headgate.main.application import Application, open_application
from headgate.main.first_start import INTEGRATION, prepare_credential, prepare_first_start
from headgate.metering import store as metering
from headgate.relay.ports import Receipt
from headgate.settings import Settings
from headgate.telemetry.metrics import Metrics

PROVIDER = "http://127.0.0.1:9/v1"
"""Nothing listens there: no socket is ever opened."""
MANAGED = "managed"
"""The credential that the wallet pays for; calls that name none use the organization's own."""
WAIT_SECONDS = 20.0
TURNS = 8
"""Iterations of the loop in which everything after an answer is done."""


class TimelessLoop(uvloop.Loop):
    """Run an event loop whose timers never fire: what they do depends on the machine's load."""

    def limit(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Fire the one timer that must: when nothing comes any more."""
        return super().call_later(seconds, callback)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return _Timer()

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return _Timer()


class QuietSocket:
    """Represent a socket on which nothing ever arrives."""

    def __init__(self) -> None:
        self._descriptor, self._far_end = (end.detach() for end in socket.socketpair())

    def fileno(self) -> int:
        """Return a descriptor that is open as long as the process runs."""
        return self._descriptor


QUIET = QuietSocket()


class _Timer:
    def cancel(self) -> None:
        pass


class Turn:
    """Let the event loop run one iteration when awaited."""

    def __await__(self) -> Generator[None]:
        yield


class Transport(asyncio.Transport):
    """Represent one end of a connection; what is written is kept until `take`."""

    def __init__(self, **more: object) -> None:
        ends = {"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 80)}
        super().__init__(ends | more)
        self.written: list[bytes] = []
        self.sends = 0
        self._is_closing: Callable[[bytes], bool] = bool
        self._awaited: asyncio.Future[None] | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sends += 1
        self.written.append(bytes(data))
        self._look()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.sends += 1
        self.written += map(bytes, list_of_data)
        self._look()

    def _look(self) -> None:
        if self._awaited is not None and not self._awaited.done() and self._is_closing(self.peek()):
            self._awaited.set_result(None)

    def _give_up(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            seen = self.peek()[-1000:]
            self._awaited.set_exception(TimeoutError(f"only {seen!r} was written"))

    def peek(self) -> bytes:
        return b"".join(self.written)

    async def take(self, is_over: Callable[[bytes], bool] = bool) -> bytes:
        """Return what was written, once it satisfies `is_over`."""
        self._is_closing = is_over
        if not is_over(self.peek()):
            loop = cast("TimelessLoop", asyncio.get_running_loop())
            self._awaited = loop.create_future()
            limit = loop.limit(WAIT_SECONDS, self._give_up)
            await self._awaited
            limit.cancel()
        written, self.written = self.peek(), []
        return written

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


TRANSPORT_CALLS = {
    each.__code__: f"Transport.{each.__name__}"
    for each in (
        Transport.write,
        Transport.writelines,
        Transport.is_closing,
        Transport.get_write_buffer_size,
        Transport.set_write_buffer_limits,
    )
}
"""Functions that a real transport runs in C."""


class Provider(Dialer):
    """Open connections whose other end is held here."""

    def __init__(self) -> None:
        self.transport = Transport(socket=QUIET)
        self._connection: UpstreamConnection | None = None

    async def dial(
        self,
        origin: Origin,
        create: Callable[[], UpstreamConnection],
        *,
        deadline: float,
        purpose: str = "",
    ) -> UpstreamConnection:
        self._connection = create()
        self._connection.connection_made(self.transport)
        return self._connection

    def send(self, data: bytes) -> None:
        """Deliver the provider's next bytes in one read."""
        assert self._connection is not None, "nobody has asked yet"
        self._connection.data_received(data)


class Gateway:
    """Hold the gateway, and one client connection to it."""

    def __init__(
        self, edge: Edge, provider: Provider, metrics: Metrics, application: Application
    ) -> None:
        self.provider = provider
        self.metrics = metrics
        self._application = application
        self._keys = read_private_json(application.settings.data / FIRST_KEYS_FILE)
        self.client = Transport()
        config = Config(cast("Any", None), log_config=None, lifespan="off", proxy_headers=False)
        config.load()
        create = functools.partial(EdgeProtocol, config, Server(config).server_state, {}, edge=edge)
        self._protocol = create(asyncio.get_running_loop())
        self._protocol.connection_made(self.client)

    def send(self, data: bytes) -> None:
        """Deliver the client's next bytes in one read."""
        self._protocol.data_received(data)

    @property
    def key(self) -> str:
        return self._keys["inference_key"]

    def read_receipts(self, count: int) -> Sequence[Receipt]:
        """Return the newest receipts of the calls so far."""
        with self._application.database.reading() as connection:
            return metering.list_recent(connection, self._keys["organization_id"], rows_max=count)

    async def settle(self) -> None:
        """Let the loop finish what an answer has left to do."""
        for _ in range(TURNS):
            await Turn()

    async def close(self) -> None:
        self._protocol.connection_lost(None)
        await self.settle()


@contextlib.asynccontextmanager
async def running_gateway(data: Path) -> AsyncGenerator[Gateway]:
    """Start a gateway on an empty folder, with one provider whose key is in the environment."""
    settings = Settings(
        data=data,
        openai_api_key="sk-bench-upstream",
        openai_base_url=PROVIDER,
        access_log=False,
    )
    application = open_application(settings)
    try:
        prepare_first_start(application)
        prepare_credential(application, None)
        _prepare_managed(application)
        with application.database.reading() as connection:
            application.load(connection, frozenset(read_revisions(connection)))
        writer = Writer(application.database)
        writer.start()
        try:
            gateway = _build(settings, application, writer)
            yield gateway
            await gateway.close()
        finally:
            await writer.stop()
    finally:
        application.close()


def _prepare_managed(application: Application) -> None:
    """Store the platform's credential, `managed`, and money that pays for its calls."""
    with application.database.transaction() as connection:
        (organization,) = application.accounts.list_organizations(connection)
        application.credentials.add(
            connection,
            CredentialRequest(
                organization_id=None,
                integration=INTEGRATION,
                secret="sk-bench-managed",
                name=MANAGED,
                base_url=PROVIDER,
            ),
            by=SYSTEM,
        )
        fund(connection, organization.id, amount_nano=10**15, reference="bench", now=0.0)


def _build(settings: Settings, application: Application, writer: Writer) -> Gateway:
    provider = Provider()
    client = HttpClient(dialer=provider)
    server = Server(Config(cast("Any", None), log_config=None))
    observers = data_plane.build_observers(settings, server, client)
    traffic = data_plane.build_traffic(settings, application)
    pipelines = data_plane.build_pipelines(
        settings,
        application,
        ledger=data_plane.build_ledger(settings, application, writer),
        claims=data_plane.build_claims(settings, application, writer),
        client=client,
        traffic=traffic,
        observer=observers,
    )
    handler = data_plane.build_handler(
        settings,
        application,
        pipelines=pipelines,
        traffic=traffic,
        on_refusal=observers.metrics.count_refusal,
    )
    return Gateway(
        data_plane.build_edge(settings, handler), provider, observers.metrics, application
    )
