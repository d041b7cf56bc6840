"""Lets actions call models: their requests run through the pipeline of this process."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import hmac
from collections.abc import Mapping

import msgspec

from headgate.connectors.model.action import ActionAnswer, HandleStore
from headgate.connectors.model.caller import ToolCaller
from headgate.connectors.model.errors import (
    AnswerTooLargeError,
    CallBrokenError,
    NoModelsError,
)
from headgate.connectors.service.action_receipts import ActionReceipts
from headgate.connectors.service.actions import ActionPorts, ActionService, make_timed_out
from headgate.connectors.service.http_calls import HttpCalls
from headgate.connectors.service.registry import ConnectorRegistry
from headgate.gateway import loopback
from headgate.gateway.exchange import InboundExchange
from headgate.gateway.openai import OpenAiHandler
from headgate.kit.http.message import Client, Headers
from headgate.llm.headers import CREDENTIALS
from headgate.main.application import Application
from headgate.relay.ports import Grant
from headgate.vault.service import Sealer

TOKEN_PREFIX = b"hg_live_action_"
TOKEN_PURPOSE = b"tokens of actions"
ANSWER_BYTES_MAX = 64 << 20
REMOVED_HEADERS = CREDENTIALS | {b"content-length", b"transfer-encoding", b"x-headgate-signature"}
"""Headers that no action sets itself: they say who calls, or where the body ends."""


class ActionGrants:
    """Find the grant of the caller whose action is making a request (`relay.ports.Grants`)."""

    def __init__(self) -> None:
        self.current: contextvars.ContextVar[Grant] = contextvars.ContextVar("action_grant")

    def find(self, token: bytes) -> Grant:
        return self.current.get()


class InProcessModels:
    """Send requests of actions through the pipeline (`connectors.model.action.ModelCaller`).

    `tasks` are those that the server waits for when it stops. An answer has `answer_bytes_max` at
    most.
    """

    def __init__(
        self,
        sealer: Sealer,
        tasks: set[asyncio.Task[None]] | None = None,
        *,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> None:
        self.grants = ActionGrants()
        self.running: set[InboundExchange] = set()
        """The calls that run now, so that those of a revoked key can be cancelled."""
        self._tasks: set[asyncio.Task[None]] = set() if tasks is None else tasks
        self._sealer = sealer
        self._answer_bytes_max = answer_bytes_max
        self._handler: OpenAiHandler | None = None

    def connect(self, handler: OpenAiHandler) -> None:
        """Send requests to this handler, which finds its grants in `grants`."""
        self._handler = handler

    async def send(
        self,
        caller: ToolCaller,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] = {},
        body: bytes = b"",
        credential: str | None = None,
        idempotency_key: str | None = None,
        timeout_seconds: float | None = None,
    ) -> ActionAnswer:
        """Return the answer, of whatever status. Raise `ActionTimedOutError`, `NoModelsError`,
        `CallBrokenError` and `AnswerTooLargeError`."""
        if self._handler is None:
            raise NoModelsError("This process calls no models.")
        sent = self._build_headers(caller, headers, credential, idempotency_key)
        mark = self.grants.current.set(find_grant(caller))
        try:
            connection, exchange = loopback.open_exchange(
                self._handler,
                method.encode(),
                target.encode("latin-1"),
                sent,
                body,
                address=caller.address,
                answer_bytes_max=self._answer_bytes_max,
            )
        finally:
            self.grants.current.reset(mark)
        if not exchange.response_complete:
            await self._run(self._handler, connection, exchange, timeout_seconds)
        return read_answer(connection)

    async def _run(
        self,
        handler: OpenAiHandler,
        connection: loopback.LoopbackConnection,
        exchange: InboundExchange,
        timeout_seconds: float | None,
    ) -> None:
        """Run the exchange as a task of its own: when its caller is gone, it is settled as the call
        of a client that disconnected."""
        task = exchange.task = asyncio.get_running_loop().create_task(handler.run(exchange))
        self._tasks.add(task)
        self.running.add(exchange)
        task.add_done_callback(lambda _: self._end(exchange, task))
        try:
            done, _ = await asyncio.wait(
                {task, connection.overflowed},
                timeout=timeout_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        except asyncio.CancelledError:
            exchange.disconnect()
            raise
        if not done:
            exchange.disconnect()
            raise make_timed_out("The call", timeout_seconds or 0.0)
        if connection.overflowed.done():
            exchange.disconnect()
            raise AnswerTooLargeError(
                f"The answer is larger than {self._answer_bytes_max} bytes.", should_retry=False
            )
        if not exchange.response_complete:
            raise CallBrokenError("The call was cut before it had an answer.")

    def _end(self, exchange: InboundExchange, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.running.discard(exchange)
        # The exchange refers to its task, and the task to the exchange.
        exchange.task = None

    def _build_headers(
        self,
        caller: ToolCaller,
        headers: Mapping[str, str],
        credential: str | None,
        idempotency_key: str | None,
    ) -> Headers:
        sent = [
            (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in headers.items()
        ]
        sent = [header for header in sent if header[0] not in REMOVED_HEADERS]
        sent.append((b"authorization", b"Bearer " + self.make_token(caller)))
        if credential is not None:
            sent.append((b"x-headgate-credential", credential.encode()))
        if idempotency_key is not None:
            sent.append((b"idempotency-key", idempotency_key.encode()))
        return sent

    def make_token(self, caller: ToolCaller) -> bytes:
        """Return what stands for the key in the caller's requests.

        It is the same in every process, since the answer to an idempotency key is sealed with it,
        and only who has the master key can tell it.
        """
        secret = self._sealer.master_key.derive(TOKEN_PURPOSE)
        owner = f"{caller.organization_id} {caller.grant.key_id}".encode()
        return TOKEN_PREFIX + hmac.digest(secret, owner, hashlib.sha256).hex().encode()


def find_grant(caller: ToolCaller) -> Grant:
    """Return the grant of a caller's calls. The signature of a request was checked with that
    request; of the calls of its action there is none."""
    if caller.grant.requires_signature and caller.is_signed:
        return msgspec.structs.replace(caller.grant, requires_signature=False)
    return caller.grant


def read_answer(connection: loopback.LoopbackConnection) -> ActionAnswer:
    answer = connection.read_answer()
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
    return ActionAnswer(answer.status, headers, answer.body)


def build_actions(
    application: Application,
    *,
    client: Client,
    receipts: ActionReceipts,
    models: InProcessModels | None,
    handles: HandleStore,
) -> ActionService:
    """Build what runs actions. Without `models`, those that call models cannot be run."""
    registry = ConnectorRegistry.load()
    http = HttpCalls(
        client,
        registry,
        application.credential_resolver,
        receipts,
        integrations=application.catalog.integrations,
        clock=application.clock,
        ids=application.ids,
    )
    ports = ActionPorts(models or InProcessModels(application.sealer), http, handles)
    return ActionService(registry, application.credential_resolver, ports, application.rate_limiter)
