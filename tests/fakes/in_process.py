"""The data plane in this process: the real edge, handler, pipeline, ledger and egress client.

Its client and its provider only count bytes, so that nothing but the gateway keeps a body.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from uvicorn.server import ServerState

from headgate import settings
from headgate.audit.model import SYSTEM
from headgate.billing.service.ledger import Ledger
from headgate.data_directory.leftovers import FIRST_KEYS_FILE
from headgate.gateway.protocol import EdgeProtocol
from headgate.keys.model import KeyKind, KeyRequest
from headgate.kit import outbox
from headgate.kit.db.engine import StorageUnavailableError
from headgate.kit.db.writer import Writer
from headgate.kit.http.client import HttpClient
from headgate.kit.private_file import read_private_json
from headgate.kit.process.listener import open_listeners
from headgate.main import data_plane
from headgate.main.actions import InProcessModels
from headgate.main.application import Application
from headgate.main.egress import open_client
from headgate.main.first_start import prepare_credential, prepare_first_start
from headgate.relay.ports import Hold, Receipt
from headgate.request_log.service.recorder import RequestRecorder
from tests.fakes.edge_connection import CONFIG
from tests.fakes.quick_start import open_quickly

CHAT = "/v1/chat/completions"
TURNS_TO_CLOSE = 3
"""Turns of the loop until an aborted connection is gone."""
PROVIDER_KEY = "sk-provider-0123456789abcdefghijklmn"
Play = Callable[["Peer"], None]


class Peer(asyncio.Protocol):
    """Play the provider's side of a connection.

    `play` is called once a request was read whole, and `play_head` once its head was. What arrives
    is counted and dropped.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._head = b""
        self._left = -1
        self.transport: asyncio.Transport = None  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._provider.peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._provider.peers.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            head, mark, rest = self._head.partition(b"\r\n\r\n")
            if not mark:
                return
            self._left, self._head = read_length(head) - len(rest), b""
            self._provider.heads += 1
        else:
            self._left -= len(data)
        if self._left <= 0:
            self._left = -1
            self._provider.asked += 1
            self._provider.play(self)

    def answer(self, body: bytes, *more: str, status: int = 200) -> None:
        """Send a whole answer; JSON, unless `more` header lines say otherwise."""
        lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *more]
        if not any(each.lower().startswith("content-type") for each in more):
            lines.append("content-type: application/json")
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)

    def reset(self) -> None:
        self.transport.abort()


def read_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    return 0


@dataclass
class Provider:
    """Answer every request by `play`."""

    play: Play = lambda peer: peer.answer(b"{}")
    heads: int = 0
    asked: int = 0
    peers: set[Peer] = field(default_factory=set[Peer])


class Client(asyncio.Protocol):
    """Play the client's side of a connection, and keep the beginning of what it gets."""

    def __init__(self) -> None:
        self.start = b""
        self.received = 0
        self.heard = asyncio.Event()
        self.closed = asyncio.Event()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self.heard.set()

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if len(self.start) < 4096:
            self.start += data[:4096]
        self.heard.set()

    @property
    def status(self) -> int:
        return int(self.start[9:12] or 0)


@dataclass
class InProcessGateway:
    """Hold a running data plane.

    `key` is an inference key without limits, `receipts` are all that were settled. Receipts are
    rejected while `storage.broken`.
    """

    application: Application
    storage: Storage
    state: ServerState
    provider: Provider
    port: int
    key: str
    receipts: list[Receipt]
    traffic: data_plane.Traffic
    client: HttpClient
    callers: list[Client]
    writer: Writer
    recorder: RequestRecorder
    notebook: ReceiptRecorder
    models: InProcessModels

    @property
    def connections_open(self) -> int:
        """Count the open connections to the provider."""
        return self.client.stats().open

    @property
    def is_idle(self) -> bool:
        """Return whether no call and no connection is open."""
        return not self.state.tasks and not self.state.connections

    async def connect(self) -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(Client, "127.0.0.1", self.port)
        self.callers.append(client)
        return client

    def issue(self, **limits: Any) -> str:
        """Create another inference key of the same project."""
        token = issue(self.application, **limits)
        load(self.application)
        return token

    def head(self, length: int, *more: str, key: str | None = None, path: str = CHAT) -> bytes:
        """Return the head of a request with a JSON body."""
        lines = [
            f"POST {path} HTTP/1.1",
            "host: 127.0.0.1",
            f"authorization: Bearer {self.key if key is None else key}",
            "content-type: application/json",
            f"content-length: {length}",
            *more,
        ]
        return "\r\n".join([*lines, "", ""]).encode()


class Storage(Ledger):
    """Stand in for the real ledger, and fail when a test says so."""

    broken = False

    def record(self, receipt: Receipt, hold: Hold | None) -> Awaitable[bool | None]:
        if self.broken:
            refused: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
            refused.set_exception(StorageUnavailableError("The database could not store this."))
            return refused
        return super().record(receipt, hold)


def issue(application: Application, **limits: Any) -> str:
    with application.database.transaction() as connection:
        first = read_private_json(application.settings.data / FIRST_KEYS_FILE)
        request = KeyRequest(
            name="gateway",
            organization_id=first["organization_id"],
            project_id=first["project_id"],
            kind=KeyKind.LIVE,
            **limits,
        )
        return application.keys.create(connection, request, by=SYSTEM).token


def load(application: Application) -> None:
    with application.database.reading() as connection:
        application.load(connection, frozenset({"keys", "credentials", "catalog"}))


class ReceiptRecorder:
    def __init__(self) -> None:
        self.receipts: list[Receipt] = []

    def observe(self, receipt: Receipt, settlement_microseconds: int) -> None:
        self.receipts.append(receipt)


async def drop_connections(state: ServerState, callers: list[Client], provider: Provider) -> None:
    """End every call and connection, also after a failure: uvloop does not close beside open
    sockets, and would keep the test run alive for ever."""
    tasks = list(state.tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for end in (*callers, *provider.peers, *cast("set[Any]", state.connections)):
        end.transport.abort()
    for _ in range(TURNS_TO_CLOSE):
        await asyncio.sleep(0)


def prepare(loaded: settings.Settings) -> tuple[Application, str]:
    """Open a new application, and return it with an inference key."""
    application = open_quickly(loaded)
    prepare_first_start(application)
    prepare_credential(application, None)
    token = issue(application)
    load(application)
    return application, token


@contextlib.asynccontextmanager
async def running_in_process(folder: Path, **variables: Any) -> AsyncGenerator[InProcessGateway]:
    """Run a data plane; `variables` are HEADGATE_ settings in lower case."""
    loop = asyncio.get_running_loop()
    provider = Provider()
    async with contextlib.AsyncExitStack() as stack:
        peers = await loop.create_server(lambda: Peer(provider), "127.0.0.1", 0)
        stack.callback(peers.close)
        origin = f"http://127.0.0.1:{peers.sockets[0].getsockname()[1]}/v1"
        environment = {f"HEADGATE_{name.upper()}": str(value) for name, value in variables.items()}
        environment |= {"OPENAI_API_KEY": PROVIDER_KEY, "OPENAI_BASE_URL": origin}
        loaded = settings.load({"HEADGATE_BREAKER_FAILURES": "0", **environment}, data=folder)
        application, token = prepare(loaded)
        stack.callback(application.close)
        writer = Writer(application.database)
        writer.start()
        stack.push_async_callback(writer.stop)
        client = open_client(loaded, application.egress_rules)
        stack.push_async_callback(client.close)
        storage = Storage(writer, application.clock, read_wanted=outbox.want_nothing)
        traffic = data_plane.build_traffic(loaded, application)
        notebook = ReceiptRecorder()
        recorder = data_plane.build_request_recorder(loaded, application, writer)
        pipelines = data_plane.build_pipelines(
            loaded,
            application,
            ledger=storage,
            claims=data_plane.build_claims(loaded, application, writer),
            client=client,
            traffic=traffic,
            observer=notebook,
        )
        build = functools.partial(
            data_plane.build_handler,
            loaded,
            application,
            pipelines=pipelines,
            traffic=traffic,
            on_refusal=lambda _error: None,
            request_log=recorder,
        )
        state = ServerState()
        models = InProcessModels(application.sealer, state.tasks)
        models.connect(build(grants=models.grants))
        edge = data_plane.build_edge(loaded, build())
        (listener,) = open_listeners("127.0.0.1", 0, hint="")
        server = await loop.create_server(
            lambda: EdgeProtocol(CONFIG, state, {}, edge=edge), sock=listener
        )
        stack.callback(server.close)
        sweeper = asyncio.create_task(edge.run(cast("Any", state.connections)))
        stack.callback(sweeper.cancel)
        callers: list[Client] = []
        stack.push_async_callback(drop_connections, state, callers, provider)
        port = server.sockets[0].getsockname()[1]
        yield InProcessGateway(
            application,
            storage,
            state,
            provider,
            port,
            token,
            notebook.receipts,
            traffic,
            client,
            callers,
            writer,
            recorder,
            notebook,
            models,
        )
