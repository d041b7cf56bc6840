"""The server of the official SDK, with our handlers. Imported on first use: the SDK takes long.

Handlers find the authenticated request in the ASGI scope (`exchange.AgentExchange`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mcp_types as types
import msgspec
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from pydantic import TypeAdapter

import headgate
from headgate.connectors.model.errors import describe_error
from headgate.connectors.model.tool import ToolCall, ToolDefinition, ToolResult, report_nothing
from headgate.kit.errors import HeadgateError, Kind
from headgate.mcp import schemas
from headgate.mcp.exchange import SCOPE_KEY, AgentExchange
from headgate.mcp.instructions import INSTRUCTIONS
from headgate.mcp.resources import MEDIA_TYPE, ResourceRegistry
from headgate.mcp.tool_runner import CallOutcome, ToolRunner
from headgate.mcp.toolbox import Toolbox

Context = ServerRequestContext[Any, Any]

LIST_BYTES = 6_000
"""About 1,500 tokens: a model reads the whole list with each of its turns."""
LIST_SECONDS, DISCOVERY_SECONDS = 30, 3_600
META_PREFIX = "io.headgate/"
REPEAT = META_PREFIX + "repeat"
REPEATED = META_PREFIX + "repeated"
REQUEST_ID = META_PREFIX + "requestId"
ERROR_CODES = {Kind.MISSING: types.INVALID_PARAMS, Kind.INVALID: types.INVALID_PARAMS}
REFUSED = -32000
"""The code of the specification for errors that servers define."""

_BLOCKS: TypeAdapter[types.ContentBlock] = TypeAdapter(types.ContentBlock)


def build_server(toolbox: Toolbox, runner: ToolRunner, resources: ResourceRegistry) -> Server[Any]:
    """Build the low-level server. It keeps nothing between requests."""
    handlers = Handlers(toolbox, runner, resources)
    server: Server[Any] = Server(
        "headgate",
        title="Headgate",
        version=headgate.__version__,
        description="AI models and other services, behind one key, metered.",
        instructions=INSTRUCTIONS,
        cache_hints={"server/discover": CacheHint(DISCOVERY_SECONDS * 1000, "public")},
        # Nothing here has arguments that are mirrored into headers.
        get_tool_input_schema=find_no_schema,
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
    )
    # Its spans would have the names of tools and the ids of requests twice: receipts have them.
    server.middleware.clear()
    return server


def find_no_schema(_name: str) -> None:
    return None


class Handlers:
    def __init__(self, toolbox: Toolbox, runner: ToolRunner, resources: ResourceRegistry) -> None:
        self._toolbox = toolbox
        self._runner = runner
        self._resources = resources

    async def list_tools(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        exchange = read_exchange(context)
        refuse_cursor(params)
        try:
            tools = await self._toolbox.open(exchange.caller)
            shown = tools.list_shown()
        except HeadgateError as error:
            raise to_protocol_error(error) from None
        return types.ListToolsResult(
            tools=to_tools(shown),
            ttl_ms=LIST_SECONDS * 1000,
            cache_scope="private",
        )

    async def call_tool(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        exchange = read_exchange(context)
        if exchange.refusal is not None:
            refused = ToolResult(error=describe_error(exchange.refusal))
            return to_call_result(CallOutcome(refused), exchange.request_id)
        meta: dict[str, Any] = dict(context.meta or {})
        tools = exchange.tools or await self._toolbox.open(exchange.caller)
        has_progress = any(name in meta for name in ("progressToken", "progress_token"))
        call = ToolCall(
            name=params.name,
            arguments=params.arguments or {},
            caller=exchange.caller,
            request_id=exchange.request_id,
            repeat=meta.get(REPEAT) is True,
            report_progress=context.session.report_progress if has_progress else report_nothing,
        )
        return to_call_result(await self._runner.run(tools, call), exchange.request_id)

    async def list_resources(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        refuse_cursor(params)
        resources = self._resources.list_for(read_exchange(context).caller)
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    uri=each.uri,
                    name=each.name,
                    title=each.title,
                    description=each.description,
                    mime_type=MEDIA_TYPE,
                )
                for each in resources
            ],
            ttl_ms=LIST_SECONDS * 1000,
            cache_scope="private",
        )

    async def list_templates(
        self, _context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        refuse_cursor(params)
        return types.ListResourceTemplatesResult(resource_templates=[])

    async def read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        exchange = read_exchange(context)
        uri = str(params.uri)
        try:
            content = await self._resources.read(exchange.caller, uri)
        except HeadgateError as error:
            raise to_protocol_error(error) from None
        text = types.TextResourceContents(uri=uri, mime_type=MEDIA_TYPE, text=content.decode())
        return types.ReadResourceResult(contents=[text], ttl_ms=0, cache_scope="private")


def read_exchange(context: Context) -> AgentExchange:
    assert context.request is not None, "every request comes over HTTP"
    return context.request.scope[SCOPE_KEY]


def refuse_cursor(params: types.PaginatedRequestParams | None) -> None:
    """Raise for a cursor: every list is one page, so none was given out."""
    if params is not None and params.cursor is not None:
        raise MCPError(types.INVALID_PARAMS, "There is no such page: the list has one only.")


def to_protocol_error(error: HeadgateError) -> MCPError:
    data = msgspec.to_builtins(describe_error(error))
    return MCPError(ERROR_CODES.get(error.kind, REFUSED), error.message, data)


def to_tools(definitions: Sequence[ToolDefinition]) -> list[types.Tool]:
    """Return the tools of a list. One that is long does not name the members of results, and has no
    titles that only repeat names."""
    tools = [to_tool(each) for each in definitions]
    if sum(map(schemas.measure, definitions)) > LIST_BYTES:
        for tool in tools:
            if tool.output_schema is not None:
                tool.output_schema = {"type": "object"}
            if tool.title is not None and tool.title.lower().replace(" ", "_") == tool.name:
                tool.title = None
    return tools


def to_tool(definition: ToolDefinition) -> types.Tool:
    return types.Tool(
        name=definition.name,
        title=definition.title,
        description=schemas.summarize(definition.description),
        input_schema=schemas.strip_input(definition.input_schema),
        output_schema=schemas.relax_output(definition.output_schema),
        annotations=to_annotations(definition),
    )


def to_annotations(definition: ToolDefinition) -> types.ToolAnnotations:
    """Return the hints. Those that have their default are left out, except whether a tool only
    reads and whether it destroys: some clients ask for both."""
    is_reading = definition.is_read_only
    return types.ToolAnnotations(
        read_only_hint=is_reading,
        destructive_hint=None if is_reading else definition.is_destructive,
        idempotent_hint=True if definition.is_idempotent and not is_reading else None,
        open_world_hint=None if definition.is_open_world else False,
    )


def to_call_result(outcome: CallOutcome, request_id: str) -> types.CallToolResult:
    result = outcome.result
    meta: dict[str, Any] = {REQUEST_ID: request_id}
    if outcome.is_repeated:
        meta[REPEATED] = True
    if result.error is not None:
        error = msgspec.to_builtins(result.error)
        return types.CallToolResult(
            content=[to_text({"error": error})],
            structured_content={"error": error},
            is_error=True,
            _meta=meta,
        )
    return types.CallToolResult(
        content=to_blocks(result), structured_content=result.structured, _meta=meta
    )


def to_blocks(result: ToolResult) -> list[types.ContentBlock]:
    """Return the content blocks. JSON is shown as text, too, for clients that know no other, unless
    the tool has a text of its own."""
    blocks = [
        _BLOCKS.validate_python({"type": each.type, **each.fields}) for each in result.content
    ]
    has_text = any(each.type == "text" for each in result.content)
    if result.structured is not None and not has_text:
        blocks.insert(0, to_text(result.structured))
    return blocks


def to_text(content: Any) -> types.TextContent:
    return types.TextContent(type="text", text=msgspec.json.encode(content).decode())
