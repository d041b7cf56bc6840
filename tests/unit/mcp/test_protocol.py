"""Both eras of the protocol, as their clients see them."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from headgate.connectors.model.errors import ErrorObject
from headgate.connectors.model.tool import ToolCall, ToolContent, ToolResult
from headgate.mcp.instructions import INSTRUCTIONS, STANDALONE_CHARACTERS
from headgate.mcp.protocol import REPEATED, REQUEST_ID
from tests.fakes.mcp import KEY, URL, FakeSource, make_tool, running_agents

pytestmark = pytest.mark.anyio

ERAS = pytest.mark.parametrize("modern", [True, False], ids=["2026-07-28", "2025-11-25"])
OUTPUT = {
    "type": "object",
    "properties": {"tool": {"type": "string", "description": "Its name."}, "arguments": {}},
    "required": ["tool"],
}


@ERAS
async def test_a_list_has_the_tools_with_schemas_and_hints_in_the_order_of_the_sources(
    modern: bool,
) -> None:
    first = FakeSource([make_tool("b", is_read_only=True, scope="mcp:read")])
    second = FakeSource([make_tool("a", output_schema=OUTPUT, is_open_world=False)])
    async with running_agents(first, second) as agents:
        result = (await agents.post("tools/list", modern=modern)).result
        again = (await agents.post("tools/list", modern=modern)).result
    assert [each["name"] for each in result["tools"]] == ["b", "a"]
    assert result == again
    reading, writing = result["tools"]
    assert reading["annotations"] == {"readOnlyHint": True}
    assert reading["inputSchema"] == {
        "type": "object",
        "properties": {"x": {"type": "integer"}},
    }
    assert writing["annotations"] == {
        "readOnlyHint": False,
        "destructiveHint": False,
        "openWorldHint": False,
    }
    assert writing["outputSchema"] == {
        "type": "object",
        "properties": {"tool": {}, "arguments": {}},
    }
    if modern:
        assert (result["ttlMs"], result["cacheScope"]) == (30_000, "private")
        assert result["resultType"] == "complete"


@ERAS
async def test_a_call_gets_its_result_as_structure_and_as_text(modern: bool) -> None:
    async with running_agents(FakeSource([make_tool("add", output_schema=OUTPUT)])) as agents:
        result = await agents.call("add", {"x": 1}, modern=modern)
    assert result["structuredContent"] == {"tool": "add", "arguments": {"x": 1}}
    assert result["content"] == [{"type": "text", "text": '{"tool":"add","arguments":{"x":1}}'}]
    assert result["isError"] is False
    assert result["_meta"][REQUEST_ID] == "req_1"


async def test_pictures_are_picture_content() -> None:
    async def draw(_call: ToolCall) -> ToolResult:
        picture = ToolContent(type="image", fields={"data": "aGk=", "mimeType": "image/png"})
        return ToolResult(structured={"images": 1}, content=(picture,))

    async with running_agents(FakeSource([make_tool("draw")], act=draw)) as agents:
        result = await agents.call("draw")
    assert result["content"] == [
        {"type": "text", "text": '{"images":1}'},
        {"type": "image", "data": "aGk=", "mimeType": "image/png"},
    ]


@ERAS
async def test_a_failed_tool_is_a_result_that_tells_how_to_recover(modern: bool) -> None:
    async def fail(call: ToolCall) -> ToolResult:
        if call.arguments:
            raise RuntimeError("a fault with sk-secret")
        error = ErrorObject(type="upstream", code="provider_error", message="No.", recovery="Wait.")
        return ToolResult(error=error)

    async with running_agents(FakeSource([make_tool("bad")], act=fail)) as agents:
        failed = await agents.call("bad", modern=modern)
        fault = await agents.call("bad", {"x": 1}, modern=modern)
        unknown = await agents.call("bed", modern=modern)
    assert failed["isError"] is True
    assert failed["structuredContent"]["error"] == {
        "type": "upstream",
        "code": "provider_error",
        "message": "No.",
        "recovery": "Wait.",
    }
    assert fault["structuredContent"]["error"]["code"] == "tool_fault"
    assert "sk-secret" not in str(fault)
    assert unknown["structuredContent"]["error"]["code"] == "tool_not_found"
    assert "bad" in unknown["structuredContent"]["error"]["message"]


async def test_a_long_list_does_not_name_the_members_of_results() -> None:
    tools = [make_tool(f"t{n}", description="x" * 250, output_schema=OUTPUT) for n in range(30)]
    async with running_agents(FakeSource(tools)) as agents:
        listed = (await agents.post("tools/list")).result["tools"]
    assert all(each["outputSchema"] == {"type": "object"} for each in listed)
    assert not any("title" in each for each in listed)


def test_the_first_512_characters_of_the_instructions_stand_alone() -> None:
    first, _, _ = INSTRUCTIONS.partition("\n\n")
    assert len(first) <= STANDALONE_CHARACTERS
    assert first.endswith(".")
    assert len(INSTRUCTIONS) > STANDALONE_CHARACTERS


async def test_a_client_of_today_discovers_the_server_without_a_handshake() -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        found = (await agents.post("server/discover")).result
    assert found["supportedVersions"] == ["2026-07-28"]
    assert found["instructions"] == INSTRUCTIONS
    assert set(found["capabilities"]) == {"tools", "resources"}
    assert found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "headgate"


@pytest.mark.parametrize("version", ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"])
async def test_an_older_client_shakes_hands_and_gets_no_session(version: str) -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        reply = await agents.post(
            "initialize",
            {
                "protocolVersion": version,
                "capabilities": {},
                "clientInfo": {"name": "old", "version": "1"},
            },
            modern=False,
            headers={"mcp-protocol-version": version},
        )
        ping = await agents.post("ping", modern=False)
    assert reply.result["protocolVersion"] == version
    assert reply.result["serverInfo"]["name"] == "headgate"
    assert "mcp-session-id" not in reply.headers
    assert ping.result == {}


@ERAS
async def test_a_progress_token_gets_what_the_tool_reports(modern: bool) -> None:
    async def work(call: ToolCall) -> ToolResult:
        await call.report_progress(1, 2, "Half.")
        return ToolResult(structured={})

    async with running_agents(FakeSource([make_tool("long")], act=work)) as agents:
        params = {"name": "long", "arguments": {}, "_meta": {"progressToken": "p"}}
        reply = await agents.post("tools/call", params, modern=modern)
    progress, answer = reply.messages
    assert progress["method"] == "notifications/progress"
    assert progress["params"] == {
        "progressToken": "p",
        "progress": 1,
        "total": 2,
        "message": "Half.",
    }
    assert answer["result"]["isError"] is False


@ERAS
async def test_resources_are_listed_and_read_as_the_caller(modern: bool) -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        listed = (await agents.post("resources/list", modern=modern)).result["resources"]
        uri = listed[0]["uri"]
        read = (await agents.post("resources/read", {"uri": uri}, modern=modern)).result
        missing = await agents.post("resources/read", {"uri": "headgate://x"}, modern=modern)
    assert uri == "headgate://models"
    assert '"for":"key_1"' in read["contents"][0]["text"]
    assert missing.error["data"]["code"] == "resource_not_found"


async def test_headers_that_differ_from_the_message_are_refused() -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        other = await agents.post("tools/call", {"name": "add"}, headers={"mcp-name": "remove"})
        version = await agents.post("tools/list", headers={"mcp-protocol-version": "2030-01-01"})
    assert (other.status, version.status) == (400, 400)


async def test_deprecated_parts_are_not_there() -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        for method in ("logging/setLevel", "prompts/list", "completion/complete"):
            reply = await agents.post(method, {"level": "info"}, modern=False)
            assert reply.error["code"] in (-32601, -32602), method


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_lists_and_calls(mode: Any) -> None:
    async with running_agents(FakeSource([make_tool("add", output_schema=OUTPUT)])) as agents:
        agents.http.headers["authorization"] = f"Bearer {KEY.decode()}"
        transport = streamable_http_client(URL, http_client=agents.http)
        async with Client(transport, mode=mode) as client:
            tools = (await client.list_tools()).tools
            result = await client.call_tool("add", {"x": 2})
    assert [each.name for each in tools] == ["add"]
    assert result.structured_content == {"tool": "add", "arguments": {"x": 2}}


async def test_a_repetition_says_so() -> None:
    source = FakeSource([make_tool("buy", is_billed=True)])
    async with running_agents(source) as agents:
        first = await agents.call("buy", {"x": 1, "y": 2})
        second = await agents.call("buy", {"y": 2, "x": 1})
    assert REPEATED not in first["_meta"]
    assert second["_meta"][REPEATED] is True
    keys = [each.idempotency_key for each in source.calls]
    assert keys[0] is not None
    assert keys[0] == keys[1]
