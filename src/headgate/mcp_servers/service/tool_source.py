"""Offers the approved tools of an organization's MCP servers, and calls them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Protocol

import msgspec

from headgate.audit.model import ActorKind
from headgate.connectors.model.caller import ToolCaller
from headgate.connectors.model.policy import find_denial
from headgate.connectors.model.tool import ErrorObject, ToolCall, ToolDefinition, ToolResult
from headgate.connectors.service.action_receipts import MCP_TOOL, OutgoingCall
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError
from headgate.kit.rate_limiter import RateLimiter
from headgate.mcp_servers.model.errors import (
    McpServerBusyError,
    McpServerFailedError,
    McpTokenMissingError,
    McpToolBlockedError,
)
from headgate.mcp_servers.model.server import McpAuthentication
from headgate.mcp_servers.model.tool import PinnedTool, ToolStatus
from headgate.mcp_servers.service.index import McpRoute, McpServerIndex, describe_tool
from headgate.mcp_servers.service.schemas import check_arguments, find_result_fault
from headgate.mcp_servers.service.targets import McpClient, McpTarget

WITHDRAWN = {
    ToolStatus.CHANGED: "its definition has changed, and nobody has approved the change",
    ToolStatus.BLOCKED: "a manager of the organization blocked it",
    ToolStatus.MISSING: "its server does not offer it any more",
}
SUBJECT = "This MCP server may be called with"

_encode = msgspec.json.Encoder().encode


class ToolCallReceipts(Protocol):
    """Record calls; `ActionReceipts` implements it."""

    def check(self) -> None:
        """Raise a `HeadgateError` of kind UNAVAILABLE while nothing can be recorded, so that
        nothing is sent."""
        ...

    async def record(self, caller: ToolCaller, call: OutgoingCall) -> None:
        """Record a call that has ended; committed on return."""
        ...

    def defer(self, caller: ToolCaller, call: OutgoingCall) -> None:
        """Record a call that was cancelled, as soon as that is possible."""
        ...


class _LimitedServer(msgspec.Struct, frozen=True):
    """Describe a server to the rate limiter."""

    key_id: str
    requests_per_minute: int
    tokens_per_minute: int = 0


class McpServerTools:
    """Implement `ToolSource`. Nothing is retried: a tool may have done its work."""

    def __init__(
        self,
        index: McpServerIndex,
        client: McpClient,
        receipts: ToolCallReceipts,
        *,
        clock: Clock,
        requests_per_minute: int,
        concurrent_max: int,
    ) -> None:
        """Servers without a limit of their own have `requests_per_minute`; 0 is none. One server
        serves `concurrent_max` calls of this process at once."""
        self._index = index
        self._client = client
        self._receipts = receipts
        self._limiter = RateLimiter(clock, subject=SUBJECT)
        self._monotonic = clock.monotonic
        self._requests_per_minute = requests_per_minute
        self._concurrent_max = concurrent_max
        self._running: Counter[str] = Counter()

    async def list_tools(self, caller: ToolCaller) -> Sequence[ToolDefinition]:
        return self._index.list_tools(caller.organization_id)

    def explain_absence(self, caller: ToolCaller, name: str) -> HeadgateError | None:
        """Return why a tool that agents saw is not callable now; None where none had this name."""
        found = self._index.find_withdrawn(caller.organization_id, name)
        if found is None:
            return None
        route, pinned = found
        denial = find_denial(caller, describe_tool(route.server, pinned))
        reason = WITHDRAWN[pinned.status]
        return denial or McpToolBlockedError(f"The tool {name!r} cannot be called: {reason}.")

    async def call_tool(self, tool: ToolDefinition, call: ToolCall) -> ToolResult:
        """Call a tool of a server with checked arguments. Raise `McpToolBlockedError`,
        `InvalidInputError`, `McpTokenMissingError`, `McpServerBusyError`, `RateLimitedError`, and
        the failures of the server."""
        found = self._index.find_tool(call.caller.organization_id, tool.name)
        if found is None:
            raise McpToolBlockedError(
                f"The tool {tool.name!r} is not approved, or its server is disabled."
            )
        route, pinned = found
        assert pinned.approved is not None, "only approved tools are callable"
        check_arguments(pinned.approved, call.arguments)
        target = build_target(route, find_person_id(call.caller), call.timeout_seconds)
        with self._take_place(route):
            return await self._call(route, pinned, target, call)

    async def _call(
        self, route: McpRoute, pinned: PinnedTool, target: McpTarget, call: ToolCall
    ) -> ToolResult:
        assert pinned.approved is not None, "only approved tools are callable"
        self._receipts.check()
        outgoing = OutgoingCall(
            request_id=call.request_id,
            endpoint=MCP_TOOL,
            method="POST",
            provider=route.server.name,
            tool=pinned.name,
            started_at=self._monotonic(),
            credential_id=route.server.id,
            request_bytes=len(_encode(call.arguments)),
        )
        try:
            result = await self._client.call(
                target, pinned.approved, call.arguments, call.report_progress
            )
        except asyncio.CancelledError:
            self._receipts.defer(call.caller, outgoing)
            raise
        # A bug must not lose the receipt; it is raised again.
        except Exception as error:
            known = error if isinstance(error, HeadgateError) else HeadgateError("")
            outgoing.fail(known.kind.value, known.code)
            await self._receipts.record(call.caller, outgoing)
            raise
        result = _check_result(pinned, result)
        outgoing.complete(200, len(_encode(result)), self._monotonic())
        if result.error is not None:
            outgoing.outcome, outgoing.error_code = "upstream_error", result.error.code
        await self._receipts.record(call.caller, outgoing)
        return result

    @contextlib.contextmanager
    def _take_place(self, route: McpRoute) -> Generator[None]:
        """Count a call. Raise `McpServerBusyError` and `RateLimitedError`."""
        server = route.server
        if self._running[server.id] >= self._concurrent_max:
            raise McpServerBusyError(
                f"The MCP server {server.name!r} has {self._concurrent_max} calls in progress.",
                retry_after_seconds=1.0,
            )
        limit = server.requests_per_minute
        per_minute = self._requests_per_minute if limit is None else limit
        if per_minute:
            self._limiter.take(_LimitedServer(server.id, per_minute))
        self._running[server.id] += 1
        try:
            yield
        finally:
            self._running[server.id] -= 1
            if not self._running[server.id]:
                del self._running[server.id]


def build_target(
    route: McpRoute, person_id: str | None, timeout_seconds: float | None = None
) -> McpTarget:
    """Return how a server is called for a person, or for nobody in particular.

    Raise `McpServerFailedError` for headers that cannot be opened, `McpTokenMissingError` where the
    person has no token.
    """
    server = route.server
    if route.fault:
        raise McpServerFailedError(
            f"The MCP server {server.name!r} cannot be called: {route.fault}."
        )
    headers = dict(route.headers)
    token = ""
    if server.authentication is McpAuthentication.PERSON:
        token = route.tokens.get(person_id or "", "")
        if not token:
            raise McpTokenMissingError(
                f"The MCP server {server.name!r} is called with a token of the person who calls. "
                f"Store yours with PUT /api/mcp-servers/{server.id}/token, and connect the "
                "application as a person: a key is nobody."
            )
        headers["authorization"] = f"Bearer {token}"
    limit = server.timeout_seconds
    return McpTarget(
        origin=route.origin,
        target=route.target,
        headers=headers,
        timeout_seconds=limit if timeout_seconds is None else min(limit, timeout_seconds),
        protocol_version=server.protocol_version,
        secrets=tuple(each for each in (*route.headers.values(), token) if each),
    )


def find_person_id(caller: ToolCaller) -> str | None:
    """Return the person for whom a tool is called; None for a key, which is nobody."""
    return caller.actor.id if caller.actor.kind is ActorKind.PERSON else None


def _check_result(pinned: PinnedTool, result: ToolResult) -> ToolResult:
    """Return the result, or an error for one that is not as the pinned output schema says."""
    if result.error is not None or pinned.approved is None:
        return result
    fault = find_result_fault(pinned.approved, result.structured)
    if not fault:
        return result
    return ToolResult(
        error=ErrorObject(
            type="tool",
            code="invalid_tool_result",
            message=f"The tool answered something else than it declares: {fault}.",
            recovery="Do not try again. Tell whoever runs the server of this tool.",
        )
    )
