"""What agents do with assets and handles."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headgate.assets.model.handle import HandleNotFoundError
from headgate.assets.model.owner import ProjectOwner
from headgate.audit.model import Actor, ActorKind
from headgate.connectors.model.caller import READ, ToolCaller, find_key_scopes
from headgate.connectors.model.errors import InvalidInputError
from headgate.connectors.model.policy import find_denial
from headgate.connectors.model.tool import ToolCall, ToolResult
from headgate.connectors.service.asset_tools import READ_BYTES_MAX, TOOLS, AssetTools
from headgate.relay.ports import Grant
from tests.fakes.asset_harness import AssetHarness, running_assets

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n0123"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Agent:
    """Call the tools as the key of one project."""

    def __init__(self, harness: AssetHarness) -> None:
        self.harness = harness
        self.tools = AssetTools(
            harness.application.assets,
            harness.parts.files,
            harness.parts.handles,
            harness.database,
        )

    def make_caller(self, owner: ProjectOwner | None = None, **grant: Any) -> ToolCaller:
        owner = owner or self.harness.own
        made = Grant("key_1", owner.organization_id, owner.project_id, **grant)
        return ToolCaller(
            grant=made, scopes=find_key_scopes(made), actor=Actor(ActorKind.KEY, "key_1")
        )

    async def call(
        self, name: str, caller: ToolCaller | None = None, /, **arguments: Any
    ) -> ToolResult:
        tool = next(each for each in TOOLS if each.name == name)
        call = ToolCall(
            name=name,
            arguments=arguments,
            caller=caller or self.make_caller(),
            request_id="req_1",
        )
        return await self.tools.call_tool(tool, call)

    async def ask(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        result = await self.call(name, **arguments)
        assert result.structured is not None
        return result.structured


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncGenerator[Agent]:
    async with running_assets(tmp_path / "data", public_url="https://gate.example/") as harness:
        yield Agent(harness)


async def test_asset_is_uploaded_from_a_handle_and_found_again(agent: Agent) -> None:
    handles = agent.harness.parts.handles
    handle = await handles.put(agent.harness.own, PNG, "image/png", "image.png")
    made = await agent.ask("upload_asset", handle=handle.id, alt="A cat")
    assert made["url"].startswith(f"https://gate.example/assets/{made['id']}/image-")
    assert (made["media_type"], made["bytes"], made["alt"]) == ("image/png", len(PNG), "A cat")
    agent.harness.clock.time += 1
    text = await agent.ask("upload_asset", content_text="x", slug="x.txt", overwrite="yes")
    assert "alt" not in text
    assert await agent.ask("list_assets") == {"assets": [text, made], "total": 2}
    assert await agent.ask("list_assets", limit="1", offset=1) == {"assets": [made], "total": 2}
    sibling = agent.make_caller(agent.harness.sibling)
    assert (await agent.call("list_assets", sibling)).structured == {"assets": [], "total": 0}
    with pytest.raises(HandleNotFoundError):
        await agent.call("upload_asset", sibling, handle=handle.id)


async def test_long_result_is_read_in_parts_that_end_between_characters(agent: Agent) -> None:
    text = "äöü€😀" * 3_000
    handles = agent.harness.parts.handles
    handle = await handles.put(agent.harness.own, text.encode(), "text/plain", "a.txt")
    read, offset, parts = "", 0, 0
    while True:
        part = await agent.ask("read_result", handle=handle.id, offset=offset, limit=9_001)
        assert (part["bytes"], part["offset"]) == (len(text.encode()), offset)
        read, parts = read + part["text"], parts + 1
        if "next_offset" not in part:
            break
        offset = part["next_offset"]
    assert (read, parts) == (text, 5)
    behind = await agent.ask("read_result", handle=handle.id, offset=10**9)
    assert behind["text"] == ""


async def test_image_is_shown_and_other_bytes_are_base64(agent: Agent) -> None:
    handles = agent.harness.parts.handles
    image = await handles.put(agent.harness.own, PNG, "image/png", "image.png")
    shown = await agent.call("read_result", handle=image.id)
    (block,) = shown.content
    assert block.type == "image"
    assert block.fields == {"data": base64.b64encode(PNG).decode(), "mimeType": "image/png"}
    assert shown.structured is not None
    assert "base64" not in shown.structured
    binary = await handles.put(agent.harness.own, bytes(range(256)), "audio/mpeg", "a.mp3")
    part = await agent.ask("read_result", handle=binary.id, offset=200, limit=50)
    assert base64.b64decode(part["base64"]) == bytes(range(200, 250))
    assert part["next_offset"] == 250


async def test_input_that_is_wrong_names_its_field(agent: Agent) -> None:
    for arguments, field in (
        ({"handle": "hdl_1", "limit": READ_BYTES_MAX + 1}, "limit"),
        ({"handle": "hdl_1", "offset": "x"}, "offset"),
        ({}, "handle"),
        ({"handle": "hdl_1", "more": 1}, "more"),
    ):
        with pytest.raises(InvalidInputError) as caught:
            await agent.call("read_result", **arguments)
        assert field in (caught.value.param or caught.value.message)


async def test_reading_needs_less_than_uploading_and_the_tools_cost_few_words(
    agent: Agent,
) -> None:
    reader = msgspec.structs.replace(agent.make_caller(), scopes=frozenset({READ}))
    allowed = [tool.name for tool in TOOLS if find_denial(reader, tool) is None]
    assert allowed == ["read_result", "list_assets"]
    assert await agent.tools.list_tools(reader) == TOOLS
    listed = [tool for tool in TOOLS if tool.is_listed]
    assert (
        len(msgspec.json.encode([(each.input_schema, each.description) for each in listed])) < 1_400
    )
