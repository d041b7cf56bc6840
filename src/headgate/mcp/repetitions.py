"""Answer a repeated call that costs from the first one (G26).

The pipeline already answers a model call with a known idempotency key from its store. So all that
is left is to give the same key to the same call of the same caller, for a while, in all processes.
The server makes it: a key that a model makes up is new every time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Awaitable
from typing import Protocol

import msgspec

from headgate.connectors.model.caller import ToolCaller
from headgate.connectors.model.tool import ToolCall, ToolResult
from headgate.kit.crypto import encode_fields
from headgate.kit.db.repetition_store import StartedWork, WorkRequest
from headgate.mcp.errors import ToolAnswerLostError, ToolRunningError
from headgate.relay.idempotency import (
    IdempotencyKeyInUseError,
    OutcomeUnknownError,
    StoredAnswerMissingError,
)

_encode = msgspec.json.Encoder(order="deterministic").encode


STILL_RUNNING = frozenset({IdempotencyKeyInUseError.code})
LOST = frozenset({StoredAnswerMissingError.code, OutcomeUnknownError.code})


class StartedCalls(Protocol):
    def start(self, request: WorkRequest) -> Awaitable[StartedWork]: ...


class Repetitions:
    """Give calls their idempotency keys. Without a store, no call is a repetition."""

    def __init__(self, calls: StartedCalls | None) -> None:
        self._calls = calls
        self._running: dict[bytes, CallLock] = {}
        self.count = 0

    @contextlib.asynccontextmanager
    async def enter(self, call: ToolCall) -> AsyncGenerator[tuple[ToolCall, bool]]:
        """Yield the call with its key, and whether it repeats one. A repetition in this process
        waits for the end of the first one, so that there is an answer."""
        if self._calls is None:
            yield call, False
            return
        fields = describe_call(call.caller, call)
        call_id = hashlib.sha256(fields).digest()
        async with self._alone(call_id):
            work = await self._calls.start(WorkRequest(call_id, renew=call.repeat))
            self.count += work.is_repeated
            key = make_key(fields, work.nonce)
            yield msgspec.structs.replace(call, idempotency_key=key), work.is_repeated

    @contextlib.asynccontextmanager
    async def _alone(self, call_id: bytes) -> AsyncGenerator[None]:
        lock = self._running.setdefault(call_id, CallLock())
        lock.wanted += 1
        try:
            async with lock.lock:
                yield
        finally:
            lock.wanted -= 1
            if not lock.wanted:
                del self._running[call_id]


class CallLock:
    """Let equal calls run one after the other."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted = 0


def describe_call(caller: ToolCaller, call: ToolCall) -> bytes:
    """Encode who asks for what. The order of members does not count."""
    grant = caller.grant
    who = (grant.organization_id, grant.project_id, grant.key_id, caller.actor.id)
    return encode_fields("headgate.tool_call.1", *who, call.name, _encode(call.arguments))


def make_key(fields: bytes, nonce: bytes) -> str:
    """Return the key of one run of a call. Who has only the database, where the nonce is, cannot
    derive it."""
    return "tool_" + hashlib.sha256(encode_fields("headgate.tool_key.1", nonce, fields)).hexdigest()


def check_repeated(result: ToolResult, name: str) -> None:
    """Raise what an agent can act on, where the pipeline has no answer of the first call yet, or
    none any more: it speaks of a key of which the agent knows nothing."""
    code = "" if result.error is None else result.error.code
    if code in STILL_RUNNING:
        raise ToolRunningError(f"The same call of {name} still runs in another process.")
    if code in LOST:
        raise ToolAnswerLostError(f"The answer of the same call of {name} is not there any more.")
