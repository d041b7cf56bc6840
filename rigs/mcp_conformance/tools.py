"""The tools that the official scenarios call, with the answers that they ask for."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
import msgspec
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

Json = dict[str, Any]
Context = ServerRequestContext[Any, Any]
Run = Callable[[Context, types.CallToolRequestParams], Awaitable[Json]]

STEP_SECONDS = 0.05
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"


class FixtureTool(msgspec.Struct, frozen=True):
    """Hold a tool as it is listed, and what it does."""

    definition: Json
    run: Run


TOOLS: dict[str, FixtureTool] = {}


def tool(name: str, text: str, schema: Json | None = None) -> Callable[[Run], Run]:
    """Return a decorator that adds a tool."""

    def add(run: Run) -> Run:
        given = schema or {"type": "object", "properties": {}}
        TOOLS[name] = FixtureTool({"name": name, "description": text, "inputSchema": given}, run)
        return run

    return add


def build_png() -> bytes:
    """Return a picture of one red pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00\xff\x00\x00")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def build_wav() -> bytes:
    """Return a sound of eight silent samples."""
    samples = b"\x80" * 8
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8_000, 8_000, 1, 8)
    data = struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data), b"WAVE") + form + data


PICTURE = base64.b64encode(build_png()).decode()
SOUND = base64.b64encode(build_wav()).decode()


def text(value: str) -> Json:
    return {"content": [{"type": "text", "text": value}]}


@tool("test_simple_text", "Answer with a text.")
async def answer_text(_context: Context, _given: types.CallToolRequestParams) -> Json:
    return text("This is a simple text response for testing.")


@tool("test_image_content", "Answer with a picture.")
async def answer_picture(_context: Context, _given: types.CallToolRequestParams) -> Json:
    return {"content": [{"type": "image", "data": PICTURE, "mimeType": "image/png"}]}


@tool("test_audio_content", "Answer with a sound.")
async def answer_sound(_context: Context, _given: types.CallToolRequestParams) -> Json:
    return {"content": [{"type": "audio", "data": SOUND, "mimeType": "audio/wav"}]}


@tool("test_embedded_resource", "Answer with a resource.")
async def answer_resource(_context: Context, _given: types.CallToolRequestParams) -> Json:
    resource = {
        "uri": "test://embedded-resource",
        "mimeType": "text/plain",
        "text": "This is an embedded resource content.",
    }
    return {"content": [{"type": "resource", "resource": resource}]}


@tool("test_multiple_content_types", "Answer with a text, a picture and a resource.")
async def answer_several(_context: Context, _given: types.CallToolRequestParams) -> Json:
    resource = {
        "uri": "test://mixed-content-resource",
        "mimeType": "application/json",
        "text": json.dumps({"test": "data", "value": 123}),
    }
    return {
        "content": [
            {"type": "text", "text": "Multiple content types test:"},
            {"type": "image", "data": PICTURE, "mimeType": "image/png"},
            {"type": "resource", "resource": resource},
        ]
    }


@tool("test_error_handling", "Fail.")
async def answer_error(_context: Context, _given: types.CallToolRequestParams) -> Json:
    return {**text("This tool intentionally returns an error for testing"), "isError": True}


async def log(context: Context, message: str) -> None:
    """Send a line of a log, where the client asked for it."""
    await context.session.send_log_message(  # pyright: ignore[reportDeprecated] -- older clients
        "info", message, related_request_id=context.request_id
    )


@tool("test_tool_with_logging", "Send three lines of a log.")
async def answer_with_logs(context: Context, _given: types.CallToolRequestParams) -> Json:
    await log(context, "Tool execution started")
    await asyncio.sleep(STEP_SECONDS)
    await log(context, "Tool processing data")
    await asyncio.sleep(STEP_SECONDS)
    await log(context, "Tool execution completed")
    return text("The tool sent three lines.")


@tool("test_logging_tool", "Send a line of a log, if the request asks for it.")
async def answer_with_log(context: Context, _given: types.CallToolRequestParams) -> Json:
    await log(context, "Logging tool called")
    return text("The tool was called.")


@tool("test_tool_with_progress", "Report progress three times.")
async def answer_with_progress(context: Context, _given: types.CallToolRequestParams) -> Json:
    for progress in (0, 50, 100):
        await context.session.report_progress(progress, 100)
        await asyncio.sleep(STEP_SECONDS)
    return text("The tool reported its progress.")


@tool(
    "json_schema_2020_12_tool",
    "Have a schema with the words of JSON Schema 2020-12.",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)
async def answer_schema(_context: Context, _given: types.CallToolRequestParams) -> Json:
    return text("The arguments match.")


@tool(
    "test_header_parameter",
    "Take a parameter that is in a header as well.",
    {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
        "required": ["region"],
    },
)
async def answer_region(_context: Context, given: types.CallToolRequestParams) -> Json:
    return text(f"The region is {(given.arguments or {}).get('region')}.")


def find_capabilities(context: Context) -> Json:
    """Return what the client declared that it can do."""
    capabilities = context.session.client_capabilities
    return capabilities.model_dump(by_alias=True, exclude_none=True) if capabilities else {}


@tool("test_missing_capability", "Need a client that samples.")
async def need_sampling(context: Context, _given: types.CallToolRequestParams) -> Json:
    if "sampling" not in find_capabilities(context):
        data: Json = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "The client cannot sample", data)
    return text("The client can sample.")


PERSON = {
    "type": "object",
    "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    },
    "required": ["username", "email"],
}
NAMES = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
PROMPT = {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]}


@tool("test_sampling", "Ask the client for a sample.", PROMPT)
async def ask_sample(context: Context, given: types.CallToolRequestParams) -> Json:
    question = types.TextContent(type="text", text=str((given.arguments or {})["prompt"]))
    answer = await context.session.create_message(  # pyright: ignore[reportDeprecated] -- an older client still answers it
        messages=[types.SamplingMessage(role="user", content=question)], max_tokens=100
    )
    said = answer.content.text if isinstance(answer.content, types.TextContent) else ""
    return text(f"LLM response: {said}")


async def elicit(context: Context, message: str, schema: Json) -> Json:
    """Ask the person in front of the client, and return what they said as a text."""
    answer = await context.session.elicit(message, schema)
    content = json.dumps(answer.content)
    return text(f"Elicitation completed: action={answer.action}, content={content}")


@tool("test_elicitation", "Ask the person.", NAMES)
async def ask_person(context: Context, given: types.CallToolRequestParams) -> Json:
    return await elicit(context, str((given.arguments or {})["message"]), PERSON)


@tool("test_elicitation_sep1034_defaults", "Ask the person, with defaults.")
async def ask_with_defaults(context: Context, _given: types.CallToolRequestParams) -> Json:
    status = {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"}
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": status,
        "verified": {"type": "boolean", "default": True},
    }
    schema: Json = {"type": "object", "properties": properties, "required": []}
    return await elicit(context, "Is this right?", schema)


def title(*pairs: tuple[str, str]) -> list[Json]:
    return [{"const": value, "title": shown} for value, shown in pairs]


@tool("test_elicitation_sep1330_enums", "Ask the person to choose.")
async def ask_to_choose(context: Context, _given: types.CallToolRequestParams) -> Json:
    plain = ["option1", "option2", "option3"]
    options = title(
        ("value1", "First Option"), ("value2", "Second Option"), ("value3", "Third Option")
    )
    choices = title(
        ("value1", "First Choice"), ("value2", "Second Choice"), ("value3", "Third Choice")
    )
    properties = {
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": options},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": choices}},
    }
    return await elicit(context, "Choose.", {"type": "object", "properties": properties})
