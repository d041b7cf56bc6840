"""Agents at a real server: the official client in both eras, over HTTP and standard input."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import msgspec
import psutil
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import Tool

from headgate.kit.tokenizer import Tokenizer
from headgate.mcp.protocol import REPEAT, REPEATED
from tests.fakes.gateway import Gateway
from tests.fakes.mcp_server import SEND, running_mcp_server
from tests.fakes.simulated_gateway import SimulatedGateway
from tests.fakes.upstream import FakeUpstream, ReceivedRequest
from tests.fakes.waiting import wait_until

pytestmark = pytest.mark.anyio

LIST_TOKENS_MAX = 1_500
GROWTH_MEBIBYTES_MAX = 4
MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])
OPENAI_TOOLS = [
    *("openai_chat_completion", "openai_generate_image"),
    *("openai_list_models", "openai_create_embedding"),
]
CHAT = "openai_chat_completion"
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Done."}}
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
}


@contextlib.asynccontextmanager
async def connected(gateway: Gateway, mode: Any, key: str = "") -> AsyncGenerator[Client]:
    headers = {"authorization": f"Bearer {key or gateway.key}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20) as http,
        Client(streamable_http_client(f"{gateway.url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def say(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


@MODES
async def test_agent_lists_the_tools_of_openai_in_few_tokens_and_calls_one(
    sdk: SimulatedGateway, mode: Any
) -> None:
    async with connected(sdk.gateway, mode) as client:
        tools = (await client.list_tools()).tools
        result = await client.call_tool(CHAT, say(f"Hello in {mode}"))
        models = await client.read_resource("headgate://models")
        usage = await client.read_resource("headgate://usage")
    names = [each.name for each in tools]
    assert [each for each in names if each.startswith("openai_")] == OPENAI_TOOLS
    listed = [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in tools]
    tokens = Tokenizer().count(msgspec.json.encode(listed).decode())
    assert tokens <= LIST_TOKENS_MAX
    assert f"Hello in {mode}" in result.structured_content["content"]
    assert json.loads(models.contents[0].text)["data"]  # type: ignore[union-attr]
    assert json.loads(usage.contents[0].text)["total"]["requests"]  # type: ignore[union-attr]


def shorten(tool: Tool) -> Any:
    """Return a tool as a longer list shows it."""
    short = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
    short.pop("outputSchema", None)
    if tool.output_schema is not None:
        short["outputSchema"] = {"type": "object"}
    if tool.title and tool.title.lower().replace(" ", "_") == tool.name:
        del short["title"]
    return short


async def test_list_of_full_access_is_short_too(sdk: SimulatedGateway) -> None:
    """A management key sees what a connected application with full access sees beside the tools of
    a key."""
    shown: dict[str, Any] = {}
    for key in (sdk.gateway.key, sdk.gateway.keys["admin_key"]):
        async with connected(sdk.gateway, "auto", key) as client:
            for tool in (await client.list_tools()).tools:
                shown[tool.name] = shorten(tool)
    assert {"setup_integration", "remove_integration", *OPENAI_TOOLS} <= set(shown)
    assert Tokenizer().count(msgspec.json.encode([*shown.values()]).decode()) <= LIST_TOKENS_MAX


async def test_repeated_call_is_billed_once_unless_a_new_run_is_asked_for(
    sdk: SimulatedGateway,
) -> None:
    async with connected(sdk.gateway, "auto") as client:
        first = await client.call_tool(CHAT, say("Once"))
        again = await client.call_tool(CHAT, say("Once"))
        anew = await client.call_tool(CHAT, say("Once"), meta={REPEAT: True})
    assert again.structured_content == first.structured_content
    assert (again.meta or {}).get(REPEATED) is True
    assert REPEATED not in (anew.meta or {})
    receipts = sdk.receipts.take()
    assert [each.endpoint for each in receipts] == ["chat.completions"] * 2
    assert all(each.cost_nano for each in receipts)


async def test_failed_call_is_a_result_with_its_field_and_recovery(sdk: SimulatedGateway) -> None:
    async with connected(sdk.gateway, "auto") as client:
        result = await client.call_tool(CHAT, {"messages": "no list"})
    assert result.is_error
    error = result.structured_content["error"]
    assert (error["code"], error["field"]) == ("invalid_input", "messages")
    assert error["recovery"]


async def test_image_is_content_or_the_id_of_a_handle(sdk: SimulatedGateway) -> None:
    given = {"prompt": "A cat", "model": "gpt-image-1"}
    async with connected(sdk.gateway, "auto") as client:
        shown = await client.call_tool("openai_generate_image", given)
        handed = await client.call_tool(
            "openai_generate_image", {**given, "response_format": "handle"}
        )
    assert shown.structured_content == {"images": [{"media_type": "image/png"}]}
    assert [each.type for each in shown.content] == ["text", "image"]
    [image] = handed.structured_content["images"]
    assert image["handle"].startswith("hdl_")
    assert [each.type for each in handed.content] == ["text"]


async def test_desktop_client_connects_over_standard_input(sdk: SimulatedGateway) -> None:
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "headgate.cli", "mcp", "--stdio", "--url", sdk.gateway.url],
        env={"HEADGATE_API_KEY": sdk.gateway.key},
    )
    async with Client(command) as client:
        tools = (await client.list_tools()).tools
        result = await client.call_tool(CHAT, say("Hello over stdio"))
    assert set(OPENAI_TOOLS) <= {each.name for each in tools}
    assert "Hello over stdio" in result.structured_content["content"]


async def test_metrics_count_requests_and_calls_of_agents(sdk: SimulatedGateway) -> None:
    async with httpx2.AsyncClient() as http:
        await http.post(f"{sdk.gateway.url}/mcp")
    async with connected(sdk.gateway, "auto") as client:
        await client.call_tool("no_such_tool", {})
    metrics = sdk.gateway.metrics()
    for name in ("mcp_requests", "mcp_refusals", "tool_calls", "tool_errors"):
        [line] = [
            each for each in metrics.splitlines() if each.startswith(f"headgate_{name}_total")
        ]
        assert float(line.split()[-1]) >= 1


async def test_call_that_outlives_its_client_and_a_stop_is_billed_once(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def wait(received: ReceivedRequest) -> None:
        arrived.set()
        go_on.wait(20)
        received.answer(json.dumps(ANSWER).encode())

    upstream.script = wait
    async with connected(gateway, "legacy") as client:
        left = asyncio.create_task(client.call_tool(CHAT, say("Long")))
        await asyncio.to_thread(arrived.wait, 10)
        left.cancel()
    async with connected(gateway, "auto") as client:
        # By the list, the client checks the result; it could not ask for it after the stop.
        await client.list_tools()
        again = asyncio.create_task(client.call_tool(CHAT, say("Long")))
        await wait_for_metric(gateway, "headgate_tool_calls_total 2.0")
        gateway.process.send_signal(signal.SIGTERM)
        go_on.set()
        first = await again
    assert first.structured_content["content"] == "Done."
    assert gateway.process.wait(20) == 0
    assert len(upstream.received) == 1


async def wait_for_metric(gateway: Gateway, line: str) -> None:
    await asyncio.to_thread(wait_until, lambda: line in gateway.metrics())


@pytest.mark.prove
@pytest.mark.timeout(240)
async def test_connections_that_come_and_go_leave_memory_flat(sdk: SimulatedGateway) -> None:
    server = psutil.Process(sdk.gateway.process.pid)
    headers = {"authorization": f"Bearer {sdk.gateway.key}", "content-type": "application/json"}
    headers |= {"accept": "application/json, text/event-stream"}

    async def churn(connections: int) -> float:
        for number in range(connections):
            async with httpx2.AsyncClient(headers=headers, verify=False) as http:
                call: Any = {"name": "list_integrations", "arguments": {}}
                for method, params in (("tools/list", None), ("tools/call", call)):
                    message: Any = {
                        "jsonrpc": "2.0",
                        "id": number,
                        "method": method,
                        "params": params or call,
                    }
                    answer = await http.post(f"{sdk.gateway.url}/mcp", json=message)
                    assert answer.status_code == 200
        return server.memory_full_info().uss / 1024**2

    before = await churn(300)
    after = await churn(1_000)
    assert after - before < GROWTH_MEBIBYTES_MAX


async def test_tools_of_another_server_are_called_once_approved_by_the_keys_that_may(
    sdk: SimulatedGateway,
) -> None:
    gateway = sdk.gateway
    keys = gateway.keys
    owner = {
        "authorization": f"Bearer {keys['admin_key']}",
        "x-organization-id": keys["organization_id"],
    }
    with running_mcp_server(tools=[SEND, {**SEND, "name": "search"}]) as server:
        async with httpx2.AsyncClient(base_url=gateway.url, headers=owner, timeout=20) as http:
            body = {"name": "tracker", "url": server.url}
            made = (await http.post("/api/mcp-servers", json=body)).json()
            tools = (await http.get(f"/api/mcp-servers/{made['id']}/tools")).json()["tools"]
            hashes = {"tools": {each["name"]: each["hash"] for each in tools}}
            async with connected(gateway, "auto") as client:
                assert "tracker_send" not in await list_names(client)
            await http.post(f"/api/mcp-servers/{made['id']}/tools/approve", json=hashes)
            limited = {"name": "sender", "project_id": keys["project_id"], "tools": ["*_send"]}
            key = (await http.post("/api/api-keys", json=limited)).json()["key"]
            async with connected(gateway, "legacy", key) as client:
                assert [each for each in await list_names(client) if "tracker" in each] == [
                    "tracker_send"
                ]
                result = await client.call_tool("tracker_send", {"to": "ann"})
                denied = await client.call_tool("tracker_search", {"to": "ann"})
            await http.delete(f"/api/mcp-servers/{made['id']}")
    assert (result.content[0].text, server.calls) == ("sent", [{"to": "ann"}])  # type: ignore[union-attr]
    assert denied.is_error
    [receipt] = sdk.receipts.take()
    assert (receipt.endpoint, receipt.provider, receipt.cost_nano) == ("mcp.tool", "tracker", 0)


async def list_names(client: Client) -> list[str]:
    return [each.name for each in (await client.list_tools()).tools]
