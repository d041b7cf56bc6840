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
from headgate.connectors.model.tool import ErrorObject, ToolCall, ToolDefinition, ToolResult
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.rate_limiter import RateLimiter
from headgate.mcp_servers.model.errors import (
    McpServerBusyError,
    McpServerFailedError,
    McpTokenMissingError,
    McpToolBlockedError,
)
from headgate.mcp_servers.model.server import McpAuthentication
from headgate.mcp_servers.model.tool import PinnedTool
from headgate.mcp_servers.service.index import McpRoute, McpServerIndex
from headgate.mcp_servers.service.schemas import check_arguments, find_result_fault
from headgate.mcp_servers.service.targets import McpClient, McpTarget

ENDPOINT = "mcp.tool"
"""The endpoint of the receipts of calls."""
SUBJECT = "This MCP server may be called with"


class ToolCallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what one call of a tool was, for its receipt. `status` is that of HTTP; 200 is also that
    of a tool that says that it failed, with the outcome `upstream_error`."""

    caller: ToolCaller
    request_id: str
    server_name: str
    tool_name: str
    status: int
    outcome: str
    error_code: str | None
    upstream_microseconds: int
    total_microseconds: int


class ToolCallRecorder(Protocol):
    """Store the receipts of calls."""

    async def record_tool_call(self, record: ToolCallRecord) -> None:
        """Record a call, committed on return. Raise a `HeadgateError` where that cannot be."""
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
        recorder: ToolCallRecorder,
        *,
        clock: Clock,
        requests_per_minute: int,
        concurrent_max: int,
    ) -> None:
        """Servers without a limit of their own have `requests_per_minute`; 0 is none. One server
        serves `concurrent_max` calls of this process at once."""
        self._index = index
        self._client = client
        self._recorder = recorder
        self._limiter = RateLimiter(clock, subject=SUBJECT)
        self._monotonic = clock.monotonic
        self._requests_per_minute = requests_per_minute
        self._concurrent_max = concurrent_max
        self._running: Counter[str] = Counter()

    async def list_tools(self, caller: ToolCaller) -> Sequence[ToolDefinition]:
        return self._index.list_tools(caller.organization_id)

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
        begin = self._monotonic()
        status, outcome, code = Kind.UPSTREAM.value, "cancelled", None
        answered = begin
        try:
            result = await self._client.call(
                target, pinned.approved, call.arguments, call.report_progress
            )
            answered = self._monotonic()
            result = _check_result(pinned, result)
            status, code = 200, None if result.error is None else result.error.code
            outcome = "completed" if result.error is None else "upstream_error"
            return result
        except HeadgateError as error:
            answered = self._monotonic()
            status, outcome, code = error.kind.value, "upstream_error", error.code
            raise
        finally:
            record = ToolCallRecord(
                caller=call.caller,
                request_id=call.request_id,
                server_name=route.server.name,
                tool_name=pinned.name,
                status=status,
                outcome=outcome,
                error_code=code,
                upstream_microseconds=int((answered - begin) * 1e6),
                total_microseconds=int((self._monotonic() - begin) * 1e6),
            )
            await _finish(self._recorder, record)

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


async def _finish(recorder: ToolCallRecorder, record: ToolCallRecord) -> None:
    """Record a call, also where its task was cancelled."""
    task = asyncio.ensure_future(recorder.record_tool_call(record))
    await asyncio.shield(task)
