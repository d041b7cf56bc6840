"""The client that Headgate calls other MCP servers with, as a command: `client.py URL`.

It does what Headgate does with a registered server: ask what it offers, then call each tool with
arguments that fit its schema. The official tests start it once for each scenario.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.parse
from typing import Any

import msgspec

from headgate.connectors.model.tool import report_nothing
from headgate.kit.http.client import HttpClient
from headgate.kit.http.guard import EgressRule, Guard
from headgate.kit.http.message import Origin
from headgate.mcp_servers.service.sdk import SdkMcpClient
from headgate.mcp_servers.service.targets import McpCallLimits, McpTarget

SECONDS_MAX = 100.0
EXAMPLES = {"string": "test", "number": 5, "integer": 3, "boolean": True, "null": None}


def build_arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a value for every property that the schema describes by a simple type."""
    properties = schema.get("properties", {})
    kinds = {name: each.get("type", "string") for name, each in properties.items()}
    return {name: EXAMPLES[kind] for name, kind in kinds.items() if kind in EXAMPLES}


def list_calls(tools: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls of the scenario: those that it asks for, else one of each tool."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    asked = context.get("toolCalls")
    if asked:
        return [(each["name"], each.get("arguments", {})) for each in asked]
    return [(name, build_arguments(schema)) for name, schema in tools.items()]


async def run(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    origin = Origin(parts.scheme, parts.hostname or "", parts.port or 80)
    target = McpTarget(
        origin=origin,
        target=(parts.path or "/").encode(),
        headers={},
        timeout_seconds=SECONDS_MAX,
    )
    client = HttpClient(resolver=Guard(EgressRule(origins=frozenset({origin}))))
    try:
        mcp = SdkMcpClient(client, McpCallLimits())
        found = await mcp.discover(target)
        if found.error:
            sys.exit(found.error)
        print("skipped:", found.skipped)
        target = msgspec.structs.replace(target, protocol_version=found.protocol_version)
        definitions = {each.name: each for each in found.definitions}
        schemas = {name: each.input_schema for name, each in definitions.items()}
        for name, arguments in list_calls(schemas):
            result = await mcp.call(target, definitions[name], arguments, report_nothing)
            print(name, result.error or "ok")
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
