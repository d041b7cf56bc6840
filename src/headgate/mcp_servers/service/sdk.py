"""Speaks MCP with other servers, on the official SDK's client session.

Import it on first use only (`targets.LazyMcpClient`): the SDK takes most of a second to load. The
session is the SDK's. Its HTTP goes through `GuardedTransport`, and results are validated by
`schemas`, whose regular expressions take linear time, in place of the SDK's validator.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import anyio
import httpx2
import mcp_types as types
from mcp.client._probe import negotiate_auto
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import find_invalid_x_mcp_header
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter

from headgate import __version__
from headgate.connectors.model.tool import ErrorObject, ReportProgress, ToolContent, ToolResult
from headgate.kit.errors import HeadgateError, drop_trace
from headgate.kit.http.message import Client
from headgate.llm.redaction import is_secret, redact, redact_text
from headgate.mcp_servers.model.definition import ToolDefinitionRecord, clean_text
from headgate.mcp_servers.model.errors import McpServerFailedError, McpServerTimedOutError
from headgate.mcp_servers.model.tool import Discovery
from headgate.mcp_servers.service.guarded_transport import GuardedTransport
from headgate.mcp_servers.service.offered_tools import OfferedTools
from headgate.mcp_servers.service.targets import McpCallLimits, McpTarget

PROGRESS_SECONDS = 0.1
"""Progress is passed on at most this often; a server may report it in every millisecond."""
MESSAGE_CHARACTERS_MAX = 500
ERROR_CHARACTERS_MAX = 4_000
CONTENT_MAX = 100
_UNPARSED = "Failed to parse "
"""So the SDK's own error begins, and goes on with a page of its validator's."""
_CONTENT_FIELDS = {
    "text": ("text", "annotations"),
    "image": ("data", "mimeType", "annotations"),
    "audio": ("data", "mimeType", "annotations"),
    "resource": ("resource", "annotations"),
    "resource_link": ("uri", "name", "title", "description", "mimeType", "size", "annotations"),
}
_RESULTS: TypeAdapter[Any] = TypeAdapter(types.CallToolResult | types.InputRequiredResult)
_IDENTITY = types.Implementation(name="headgate", title="Headgate", version=__version__)

# They log what servers send, and addresses that may contain a key: a hostile one would write our
# log.
for _name in ("mcp.client", "client", "httpx2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


class PinnedSession(ClientSession):
    """Be a session that calls pinned tools: no list is asked for in between."""

    async def validate_tool_result(self, name: str, result: types.CallToolResult) -> None:
        """Leave results to the caller of the session."""

    def pin(self, tool: ToolDefinitionRecord) -> None:
        """Mirror arguments into headers as the pinned definition says, in the newer era."""
        listed = types.Tool(name=tool.name, input_schema=tool.input_schema)
        self._absorb_tool_listing(types.ListToolsResult(tools=[listed]), complete=False)


class SdkMcpClient:
    """Implement `targets.McpClient`. Every call is a session of its own, so any replica can make
    it."""

    def __init__(self, client: Client, limits: McpCallLimits) -> None:
        self._client = client
        self._limits = limits
        self._ending: set[asyncio.Task[None]] = set()

    async def discover(self, target: McpTarget) -> Discovery:
        try:
            async with self._open(target) as session:
                return await self._discover(session, _list_needles(target.secrets))
        except HeadgateError as error:
            return Discovery(error=error.message)

    async def call(
        self,
        target: McpTarget,
        tool: ToolDefinitionRecord,
        arguments: dict[str, Any],
        report_progress: ReportProgress,
    ) -> ToolResult:
        async with self._open(target) as session:
            session.pin(tool)
            params = types.CallToolRequestParams(name=tool.name, arguments=arguments)
            result = await session.send_request(
                types.CallToolRequest(params=params),
                _RESULTS,
                progress_callback=_Progress(report_progress, _list_needles(target.secrets)),
            )
        return _convert_result(result, target.secrets)

    @contextlib.asynccontextmanager
    async def _open(self, target: McpTarget) -> AsyncGenerator[PinnedSession]:
        """Open a session of the era that the server speaks. Raise `McpServerFailedError` and
        `McpServerTimedOutError`, whatever fails in it."""
        transport = GuardedTransport(self._client, target, bytes_max=self._limits.answer_bytes_max)
        try:
            with anyio.fail_after(target.timeout_seconds):
                async with (
                    httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False) as http,
                    streamable_http_client(
                        target.url,
                        http_client=http,
                        terminate_on_close=False,
                        max_sse_event_size=self._limits.answer_bytes_max,
                    ) as (read, write),
                    PinnedSession(read, write, client_info=_IDENTITY) as session,
                ):
                    await _negotiate(session, target.protocol_version)
                    yield session
        except TimeoutError:
            raise _time_out(target) from None
        except Exception as error:  # noqa: BLE001 - a server can make the SDK raise anything
            raise _explain(error, transport, target) from None
        finally:
            task = asyncio.ensure_future(transport.end_session())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _discover(self, session: PinnedSession, secrets: Sequence[bytes]) -> Discovery:
        offered = OfferedTools(self._limits, secrets)
        cursor: str | None = None
        for _ in range(self._limits.pages_max):
            page = await session.send_request(
                types.ListToolsRequest(params=types.PaginatedRequestParams(cursor=cursor)),
                types.ListToolsResult,
            )
            # In a thread: hundreds of large schemas take a while to compile.
            await asyncio.to_thread(_take_page, session, page.tools, offered)
            cursor = page.next_cursor
            if not cursor or offered.is_full:
                break
        else:
            offered.skip("", f"its list has more than {self._limits.pages_max} pages")
        info = session.server_info
        return Discovery(
            protocol_version=session.protocol_version or "",
            title=_shorten((info.title or info.name) if info else ""),
            version=_shorten(info.version if info else ""),
            definitions=tuple(offered.definitions.values()),
            skipped=tuple(offered.skipped),
        )


def _take_page(session: PinnedSession, tools: Sequence[types.Tool], offered: OfferedTools) -> None:
    """Take the tools of a page, but those that are refused."""
    for tool in tools:
        fault = _find_header_fault(session, tool)
        if fault:
            offered.skip(tool.name, fault)
            continue
        hints = tool.annotations
        offered.take(
            name=tool.name,
            title=tool.title,
            description=tool.description,
            input_schema=tool.input_schema,
            output_schema=tool.output_schema,
            annotations=hints.model_dump(by_alias=True, exclude_none=True) if hints else None,
        )


def _find_header_fault(session: PinnedSession, tool: types.Tool) -> str:
    """Return why arguments of a tool cannot be sent as headers, as its schema wants in the newer
    era; such a tool must not be called."""
    if session.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return ""
    fault = find_invalid_x_mcp_header(tool.input_schema)
    return f"a header of its arguments is not valid: {fault}" if fault else ""


class _Progress:
    """Pass progress on, not too often, and without secrets."""

    def __init__(self, report: ReportProgress, needles: Sequence[bytes]) -> None:
        self._report = report
        self._needles = needles
        self._next_at = 0.0

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        now = time.monotonic()
        if now < self._next_at or not math.isfinite(progress):
            return
        self._next_at = now + PROGRESS_SECONDS
        known = total if total is not None and math.isfinite(total) else None
        said = _redact(clean_text(message or ""), self._needles)
        await self._report(progress, known, said[:MESSAGE_CHARACTERS_MAX])


async def _negotiate(session: PinnedSession, known_version: str) -> None:
    """Begin the session: by the known era, else by asking. A server that has changed its era since
    is discovered again, and then called by the new one."""
    if known_version in MODERN_PROTOCOL_VERSIONS:
        session.adopt(
            types.DiscoverResult(
                supported_versions=[known_version],
                capabilities=types.ServerCapabilities(),
                result_type="complete",
                ttl_ms=0,
                cache_scope="private",
            )
        )
    elif known_version:
        await session.initialize()
    else:
        await negotiate_auto(session)


def _convert_result(
    result: types.CallToolResult | types.InputRequiredResult, secrets: tuple[str, ...]
) -> ToolResult:
    if isinstance(result, types.InputRequiredResult):
        return _fail(
            "input_required",
            "The tool asks questions in the middle of a call, which is not supported here.",
            "Give all that it could ask for as arguments, or use another tool.",
        )
    raw = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    raw = _remove_secrets(raw, secrets)
    blocks = [_convert_block(each) for each in raw.get("content", ())[:CONTENT_MAX]]
    content = tuple(each for each in blocks if each is not None)
    if raw.get("isError"):
        texts = [str(each.fields["text"]) for each in content if each.type == "text"]
        message = "\n".join(texts)[:ERROR_CHARACTERS_MAX] or "The tool failed and did not say why."
        return _fail("tool_failed", message, "Read the message, correct the arguments, try again.")
    structured: Any = raw.get("structuredContent")
    return ToolResult(
        structured=cast("dict[str, Any]", structured) if isinstance(structured, dict) else None,
        content=content,
    )


def _remove_secrets(raw: dict[str, Any], secrets: tuple[str, ...]) -> dict[str, Any]:
    """Return a result without the headers that were sent, if the server repeats them."""
    needles = _list_needles(secrets)
    return _redact(raw, needles) if needles else raw


def _list_needles(secrets: tuple[str, ...]) -> list[bytes]:
    """Return what must not come back; shorter values are found in texts that have none."""
    return [each for each in _list_values(secrets) if is_secret(each)]


def _list_values(secrets: tuple[str, ...]) -> list[bytes]:
    """Return the values of headers, and of `Bearer token` the token alone as well."""
    return [part.encode() for each in secrets for part in (each, each.rpartition(" ")[2])]


def _redact(value: Any, needles: Sequence[bytes]) -> Any:
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        for each in needles:
            data = redact(data, each)
        return data.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_redact(key, needles): _redact(each, needles) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_redact(each, needles) for each in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _convert_block(block: dict[str, Any]) -> ToolContent | None:
    names = _CONTENT_FIELDS.get(block.get("type", ""))
    if names is None:
        return None
    fields = {name: block[name] for name in names if name in block}
    return ToolContent(type=block["type"], fields=fields)


def _fail(code: str, message: str, recovery: str) -> ToolResult:
    return ToolResult(error=ErrorObject(type="tool", code=code, message=message, recovery=recovery))


def _explain(error: Exception, transport: GuardedTransport, target: McpTarget) -> HeadgateError:
    """Return what went wrong, for the caller: without traces, and without the server's headers."""
    found = _find_leaf(error)
    if isinstance(found, HeadgateError):
        return found
    if transport.failure is not None:
        return transport.failure
    if isinstance(found, MCPError) and found.code == types.REQUEST_TIMEOUT:
        return _time_out(target)
    if transport.status in (401, 403):
        return drop_trace(
            McpServerFailedError(
                f"The MCP server refused the headers or the token that it got ({transport.status})."
            )
        )
    said = "its answers are not valid MCP"
    if isinstance(found, MCPError) and not str(found).startswith(_UNPARSED):
        said = _shorten(str(found))
    for each in _list_values(target.secrets):
        said = redact_text(said, each)
    status = f" (status {transport.status})" if transport.status else ""
    return drop_trace(McpServerFailedError(f"The MCP server failed{status}: {said}."))


def _find_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return error  # pyright: ignore[reportUnknownVariableType]


def _time_out(target: McpTarget) -> McpServerTimedOutError:
    return drop_trace(
        McpServerTimedOutError(
            f"The MCP server did not answer within {target.timeout_seconds:g} seconds."
        )
    )


def _shorten(text: str) -> str:
    return clean_text(text).replace("\n", " ")[:MESSAGE_CHARACTERS_MAX].rstrip(". ")
