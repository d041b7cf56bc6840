"""The server that the official scenarios call: tools, prompts, resources and completions."""

from __future__ import annotations

import json
import re
from typing import Any

import mcp_types as types
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError

from rigs.mcp_conformance import questions
from rigs.mcp_conformance.tools import PICTURE, TOOLS, Context, Json, text, tool

NAME = "headgate-conformance"
TEMPLATE = "test://template/{id}/data"
CACHEABLE: tuple[CacheableMethod, ...] = (
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
)
HINT = CacheHint(ttl_ms=60_000, scope="private")
BUS = InMemorySubscriptionBus()


@tool("test_trigger_tool_change", "Tell listeners that the tools changed.")
async def change_tools(_context: Context, _given: types.CallToolRequestParams) -> Json:
    await BUS.publish(ToolsListChanged())
    return text("The listeners were told.")


@tool("test_trigger_prompt_change", "Tell listeners that the prompts changed.")
async def change_prompts(_context: Context, _given: types.CallToolRequestParams) -> Json:
    await BUS.publish(PromptsListChanged())
    return text("The listeners were told.")


RESOURCES: dict[str, Json] = {
    "test://static-text": {
        "mimeType": "text/plain",
        "text": "This is the content of the static text resource.",
    },
    "test://static-binary": {"mimeType": "image/png", "blob": PICTURE},
    "test://watched-resource": {"mimeType": "text/plain", "text": "Nothing has changed."},
}


def say(*contents: Json) -> Json:
    """Return a prompt of several messages."""
    return {"messages": [{"role": "user", "content": content} for content in contents]}


def build_text(value: str) -> Json:
    return {"type": "text", "text": value}


def build_prompt(given: types.GetPromptRequestParams) -> Json | None:
    """Return the prompt of a name, or None."""
    arguments = given.arguments or {}
    resource = {
        "uri": arguments.get("resourceUri", "test://example-resource"),
        "mimeType": "text/plain",
        "text": "Embedded resource content for testing.",
    }
    first, second = arguments.get("arg1"), arguments.get("arg2")
    return {
        "test_simple_prompt": say(build_text("This is a simple prompt for testing.")),
        "test_prompt_with_arguments": say(
            build_text(f"Prompt with arguments: arg1='{first}', arg2='{second}'")
        ),
        "test_prompt_with_embedded_resource": say(
            {"type": "resource", "resource": resource},
            build_text("Please process the embedded resource above."),
        ),
        "test_prompt_with_image": say(
            {"type": "image", "data": PICTURE, "mimeType": "image/png"},
            build_text("Please analyze the image above."),
        ),
        "test_input_required_result_prompt": ask_context(given),
    }.get(given.name)


def ask_context(given: types.GetPromptRequestParams) -> Json:
    context = questions.find_value(given, "user_context", "context")
    if context is None:
        question = questions.ask("What context should the prompt use?", "context")
        return questions.require(user_context=question)
    return say(build_text(f"Use this context: {context}"))


def describe_prompt(name: str, *arguments: str) -> Json:
    described = [{"name": each, "description": each, "required": True} for each in arguments]
    return {"name": name, "description": f"The prompt {name}.", "arguments": described}


PROMPTS = [
    describe_prompt("test_simple_prompt"),
    describe_prompt("test_prompt_with_arguments", "arg1", "arg2"),
    describe_prompt("test_prompt_with_embedded_resource", "resourceUri"),
    describe_prompt("test_prompt_with_image"),
    describe_prompt("test_input_required_result_prompt"),
]


Result = types.CallToolResult | types.InputRequiredResult


async def list_tools(_context: Context, _given: object) -> types.ListToolsResult:
    tools = [each.definition for each in TOOLS.values()]
    return types.ListToolsResult.model_validate({"tools": tools})


async def call_tool(context: Context, given: types.CallToolRequestParams) -> Result:
    found = TOOLS.get(given.name)
    if found is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {given.name}")
    result = await found.run(context, given)
    kind = types.CallToolResult if "content" in result else types.InputRequiredResult
    return kind.model_validate(result)


async def list_resources(_context: Context, _given: object) -> types.ListResourcesResult:
    resources = [
        {"uri": uri, "name": uri, "description": f"At {uri}.", "mimeType": each["mimeType"]}
        for uri, each in RESOURCES.items()
    ]
    return types.ListResourcesResult.model_validate({"resources": resources})


async def list_templates(_context: Context, _given: object) -> types.ListResourceTemplatesResult:
    template = {
        "uriTemplate": TEMPLATE,
        "name": "template",
        "description": "Data of an id.",
        "mimeType": "application/json",
    }
    return types.ListResourceTemplatesResult.model_validate({"resourceTemplates": [template]})


async def read_resource(
    _context: Context, given: types.ReadResourceRequestParams
) -> types.ReadResourceResult:
    uri = str(given.uri)
    found = RESOURCES.get(uri)
    if matched := re.fullmatch(r"test://template/([^/]+)/data", uri):
        [id] = matched.groups()
        data = {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}
        found = {"mimeType": "application/json", "text": json.dumps(data)}
    if found is None:
        raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})
    return types.ReadResourceResult.model_validate({"contents": [{"uri": uri, **found}]})


async def list_prompts(_context: Context, _given: object) -> types.ListPromptsResult:
    return types.ListPromptsResult.model_validate({"prompts": PROMPTS})


async def get_prompt(
    _context: Context, given: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    found = build_prompt(given)
    if found is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {given.name}")
    kind = types.GetPromptResult if "messages" in found else types.InputRequiredResult
    return kind.model_validate(found)


async def complete(_context: Context, given: types.CompleteRequestParams) -> types.CompleteResult:
    places = [each for each in ("paris", "park", "party") if each.startswith(given.argument.value)]
    found = types.Completion(values=places, total=len(places), has_more=False)
    return types.CompleteResult(completion=found)


async def accept(_context: Context, _given: object) -> types.EmptyResult:
    return types.EmptyResult()


def build_server() -> Server[Any]:
    """Return the server. It stands for Headgate's own in front of the same transport."""
    server: Server[Any] = Server(
        NAME,
        version="1.0.0",
        instructions="Call the tools of the official scenarios.",
        cache_hints=dict.fromkeys(CACHEABLE, HINT),
        get_tool_input_schema=find_schema,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=accept,
        on_unsubscribe_resource=accept,
        on_subscriptions_listen=ListenHandler(BUS),
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
    )
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, accept)
    security = RequestStateSecurity.ephemeral()
    server.middleware.append(RequestStateBoundary(security, default_audience=NAME))
    return server


def find_schema(name: str) -> Json | None:
    found = TOOLS.get(name)
    return None if found is None else found.definition["inputSchema"]
