"""Builds what sends kept requests again: to their providers, or to a simulator of its own."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, cast

import msgspec

from headgate.billing.service.budget_index import BudgetIndex
from headgate.billing.service.ledger import Ledger
from headgate.billing.service.plan_limits import PlanLimitIndex
from headgate.credentials.service import CapacityTracker
from headgate.gateway import loopback
from headgate.gateway.openai import OpenAiHandler
from headgate.kit.db.claim_store import ClaimStore
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Origin
from headgate.kit.rate_limiter import RateLimiter
from headgate.main import data_plane
from headgate.main.application import Application
from headgate.main.egress import open_client
from headgate.main.first_start import SIMULATOR_NAME, SIMULATOR_SECRET
from headgate.main.simulator import load_simulator
from headgate.relay.capacity import NoCapacity
from headgate.relay.ports import (
    OPERATOR,
    Credential,
    Credentials,
    Grant,
    Hold,
    ListedManagedModel,
    ManagedModelRoute,
    Receipt,
)
from headgate.request_log.model.payload import find_header
from headgate.request_log.model.replay import (
    ReplayAnswer,
    ReplayTarget,
    ReplayTargetMissingError,
)
from headgate.request_log.service.error_rates import AttemptCounter
from headgate.request_log.service.replay import ReplayRequest
from headgate.settings import Settings
from headgate.vault.model.base_url import parse_base_url

REQUEST_ID = "x-headgate-request-id"
TOKEN = b"hg_live_replay_%d"


class ReplayGrants:
    """Find the grants of requests that are being replayed, each by a token of its own."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._grants: dict[bytes, Grant] = {}

    def add(self, grant: Grant) -> bytes:
        """Return the token of a grant."""
        token = TOKEN % next(self._numbers)
        self._grants[token] = grant
        return token

    def find(self, token: bytes) -> Grant:
        return self._grants[token]

    def remove(self, token: bytes) -> None:
        del self._grants[token]


class SimulatorCredentials:
    """Let the simulator answer every call, whichever credential it names
    (`relay.ports.Credentials`)."""

    def __init__(self, known: Credentials, origin: Origin, path: bytes) -> None:
        """Take the credentials whose place they take: the same integrations have any."""
        self._known = known
        self._credential = Credential(
            id="",
            name=SIMULATOR_NAME,
            integration="",
            managed=False,
            origin=origin,
            base_path=path,
            headers=[(b"authorization", f"Bearer {SIMULATOR_SECRET}".encode())],
            secret=SIMULATOR_SECRET.encode(),
            purpose=OPERATOR,
        )

    def resolve(self, _organization_id: str, *, integration: str, **_named: Any) -> Credential:
        return msgspec.structs.replace(self._credential, integration=integration)

    def find_integration(self, _organization_id: str, _name: str, preferred: str) -> str:
        return preferred

    def has_any(self, organization_id: str, integration: str) -> bool:
        return self._known.has_any(organization_id, integration)

    def peek(self, organization_id: str, integration: str) -> Credential | None:
        known = self._known.peek(organization_id, integration)
        return None if known is None else self.resolve(organization_id, integration=integration)


class NoManagedRoutes:
    """Serve no managed model (`relay.ports.ManagedModelRoutes`)."""

    def __len__(self) -> int:
        return 0

    def find(self, _model_id: str) -> ManagedModelRoute | None:
        return None

    def list(self) -> list[ListedManagedModel]:
        return []

    def default(self) -> ManagedModelRoute | None:
        return None


class NoLedger:
    """Record nothing: the simulator charges nothing."""

    def check(self) -> None:
        """Let every call pass."""

    def defer(self, _receipt: Receipt, _hold: Hold | None) -> None:
        """Keep nothing."""

    def record(self, _receipt: Receipt, _hold: Hold | None) -> Awaitable[bool | None]:
        recorded: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        recorded.set_result(True)
        return recorded


class NoObserver:
    def observe(self, receipt: Receipt, settlement_microseconds: int) -> None:
        """Tell nobody."""


class InProcessReplayer:
    """Send requests through the data plane (`request_log.service.replay.Replayer`).

    A provider is asked through the pipelines of this process, with the limits, the meter and the
    ledger of every call. The simulator has pipelines of its own, and is started for the first
    replay.
    """

    def __init__(self, settings: Settings, application: Application, claims: ClaimStore) -> None:
        self.grants = ReplayGrants()
        self._settings = settings
        self._application = application
        self._claims = claims
        self._stack = contextlib.AsyncExitStack()
        self._provider: OpenAiHandler | None = None
        self._simulator: OpenAiHandler | None = None
        self._starting = asyncio.Lock()

    def connect(self, handler: OpenAiHandler) -> None:
        """Send requests for providers to this handler, which finds its grants in `grants`."""
        self._provider = handler

    async def close(self) -> None:
        await self._stack.aclose()

    def find_grant(self, key_id: str) -> Grant | None:
        return self._application.key_index.find_active(key_id)

    async def run(self, target: ReplayTarget, request: ReplayRequest) -> ReplayAnswer:
        handler = self._provider if target == "provider" else await self._find_simulator()
        if handler is None:
            raise ReplayTargetMissingError("This process calls no providers.")
        token = self.grants.add(request.grant)
        headers = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers
        ]
        try:
            answer = await loopback.send(
                handler,
                request.method.encode(),
                request.target.encode("latin-1"),
                [*headers, (b"authorization", b"Bearer " + token)],
                request.body,
            )
        # Also where the handler refused it before it looked for the grant.
        finally:
            self.grants.remove(token)
        names = tuple(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers
        )
        return ReplayAnswer(find_header(names, REQUEST_ID), answer.status, names, answer.body)

    async def _find_simulator(self) -> OpenAiHandler:
        async with self._starting:
            if self._simulator is None:
                self._simulator = await self._start_simulator()
            return self._simulator

    async def _start_simulator(self) -> OpenAiHandler:
        """Raise `SimulatorNotInstalledError`."""
        running = await load_simulator().start("127.0.0.1", 0)
        self._stack.push_async_callback(running.stop)
        origin, path = parse_base_url(f"{running.address}/v1")
        known = self._application.credential_resolver
        application = make_simulated(self._application, SimulatorCredentials(known, origin, path))
        rules = self._application.egress_rules.with_origins(OPERATOR, origin)
        client = open_client(self._settings, rules)
        self._stack.push_async_callback(client.close)
        traffic = data_plane.build_traffic(self._settings, application)
        pipelines = data_plane.build_pipelines(
            self._settings,
            application,
            ledger=cast("Ledger", NoLedger()),
            claims=self._claims,
            client=client,
            traffic=traffic,
            observer=NoObserver(),
        )
        return data_plane.build_handler(
            self._settings,
            application,
            pipelines=pipelines,
            traffic=traffic,
            on_refusal=ignore_refusal,
            grants=self.grants,
        )


def ignore_refusal(_error: HeadgateError) -> None:
    """Ignore a refused replay: who asked for it sees the answer."""


def make_simulated(application: Application, credentials: SimulatorCredentials) -> Application:
    """Return an application in which the simulator answers every call, and that counts nothing
    which a call of a client would feel."""
    clock = application.clock
    simulated = copy.copy(application)
    replaced: dict[str, Any] = {
        "credential_resolver": credentials,
        "managed_routes": NoManagedRoutes(),
        "budgets": BudgetIndex(),
        "plan_limits": PlanLimitIndex(clock),
        "rate_limiter": RateLimiter(clock),
        "capacity_tracker": CapacityTracker(clock),
        "capacity": NoCapacity(),
        "error_rates": AttemptCounter(clock, ""),
    }
    for name, value in replaced.items():
        setattr(simulated, name, value)
    return simulated


@contextlib.asynccontextmanager
async def open_replayer(
    application: Application, writer: Writer
) -> AsyncGenerator[InProcessReplayer]:
    """Open a data plane for the replays of a command, beside a running server or without one."""
    settings = application.settings
    claims = data_plane.build_claims(settings, application, writer)
    replayer = InProcessReplayer(settings, application, claims)
    client = open_client(settings, application.egress_rules)
    traffic = data_plane.build_traffic(settings, application)
    pipelines = data_plane.build_pipelines(
        settings,
        application,
        ledger=data_plane.build_ledger(settings, application, writer),
        claims=claims,
        client=client,
        traffic=traffic,
        observer=NoObserver(),
    )
    handler = data_plane.build_handler(
        settings,
        application,
        pipelines=pipelines,
        traffic=traffic,
        on_refusal=ignore_refusal,
        grants=replayer.grants,
    )
    replayer.connect(handler)
    try:
        yield replayer
    finally:
        await replayer.close()
        await client.close()
