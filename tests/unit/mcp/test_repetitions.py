"""A repeated call that costs is recognized within its window, in all processes (G26)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from headgate.connectors.model.tool import ErrorObject, ToolCall, ToolResult
from headgate.mcp.meta_tools import CALL
from headgate.mcp.protocol import REPEAT
from tests.fakes.mcp import ADMIN_GRANT, GRANT, KEY, FakeSource, make_tool, running_agents

pytestmark = pytest.mark.anyio


def keys(source: FakeSource) -> list[str | None]:
    return [each.idempotency_key for each in source.calls]


async def test_only_the_same_call_of_the_same_caller_is_a_repetition() -> None:
    source = FakeSource([make_tool("buy", is_billed=True), make_tool("sell", is_billed=True)])
    async with running_agents(source) as agents:
        await agents.call("buy", {"x": 1})
        await agents.call("buy", {"x": 2})
        await agents.call("sell", {"x": 1})
        agents.grants.grants[KEY] = msgspec.structs.replace(GRANT, key_id=ADMIN_GRANT.key_id)
        await agents.call("buy", {"x": 1})
        agents.grants.grants[KEY] = msgspec.structs.replace(GRANT, project_id="prj_2")
        await agents.call("buy", {"x": 1})
    assert len(set(keys(source))) == 5


async def test_the_window_ends_and_a_caller_may_ask_for_a_new_run() -> None:
    source = FakeSource([make_tool("buy", is_billed=True, is_listed=False)])
    async with running_agents(source) as agents:
        await agents.call("buy")
        agents.started.now = 119
        await agents.call(CALL, {"name": "buy"})
        agents.started.now = 121
        await agents.call("buy")
        params: Any = {"name": "buy", "arguments": {}, "_meta": {REPEAT: True}}
        await agents.post("tools/call", params)
        await agents.call("buy")
        await agents.call(CALL, {"name": "buy", "repeat": True})
    first, again, later, asked, after, through = keys(source)
    assert first == again
    assert asked == after
    assert len({first, later, asked, through}) == 4


async def test_a_tool_that_costs_nothing_gets_no_key() -> None:
    source = FakeSource([make_tool("look")])
    async with running_agents(source) as agents:
        await agents.call("look")
        await agents.call("look")
    assert keys(source) == [None, None]
    assert agents.started.works == {}


async def test_a_repetition_waits_for_the_first_call_and_others_do_not() -> None:
    running = most = 0

    async def work(call: ToolCall) -> ToolResult:
        nonlocal running, most
        if call.arguments.get("x") == 1:
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
        return ToolResult(structured={})

    async with running_agents(FakeSource([make_tool("buy", is_billed=True)], act=work)) as agents:
        await asyncio.gather(*(agents.call("buy", {"x": 1}) for _ in range(5)))
        assert agents.runner.calls == 5
    assert most == 1


@pytest.mark.parametrize(
    ("code", "told", "recovery"),
    [
        ("idempotency_key_in_use", "tool_running", "make the same call again"),
        ("idempotent_answer_missing", "tool_answer_lost", "repeat"),
        ("idempotency_outcome_unknown", "tool_answer_lost", "repeat"),
    ],
)
async def test_an_answer_that_is_not_there_is_told_in_words_of_tools(
    code: str, told: str, recovery: str
) -> None:
    async def fail(_call: ToolCall) -> ToolResult:
        message = "The Idempotency-Key is in use."
        return ToolResult(error=ErrorObject(type="conflict", code=code, message=message))

    async with running_agents(FakeSource([make_tool("buy", is_billed=True)], act=fail)) as agents:
        result = await agents.call("buy")
    error = result["structuredContent"]["error"]
    assert (result["isError"], error["code"]) == (True, told)
    assert recovery in error["recovery"]
    assert "Idempotency" not in str(result)
