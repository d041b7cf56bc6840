"""What is decided before a message is read: origin, caller, method, size, scope."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator

import msgspec
import pytest

from headgate.connectors.model.tool import ToolCall, ToolResult
from headgate.connectors.service import asset_tools, setup_tools
from headgate.gateway.hosts import HostAllowlist
from headgate.keys.model.scope import parse_network
from headgate.mcp.endpoint import EndpointLimits
from headgate.mcp.errors import AgentOriginError
from headgate.mcp.origins import OriginCheck
from headgate.relay.body_budget import BodyBudget
from tests.fakes.mcp import (
    ACCEPT,
    ADMIN_KEY,
    GRANT,
    HANDSHAKE,
    KEY,
    OAT,
    FakeSource,
    make_tool,
    running_agents,
)

pytestmark = pytest.mark.anyio

METADATA = "http://127.0.0.1:4600/.well-known/oauth-protected-resource/mcp"
JSON = {"accept": ACCEPT, "content-type": "application/json"}
HOSTS = [
    *("127.0.0.1:4600", "localhost:4600", "gate.example.com", "[::1]:4600", "gateway"),
    *("evil.example", "127.0.0.1.evil.example", "gate.example.com.evil.example", "", "a b"),
]
ORIGINS = [
    *("", "https://gate.example.com", "https://app.example.com"),
    *("https://evil.example", "null", "http://127.0.0.1:9999"),
]
SERVED = {"127.0.0.1:4600", "localhost:4600", "gate.example.com", "[::1]:4600", "gateway"}


@pytest.mark.parametrize(("host", "origin"), list(itertools.product(HOSTS, ORIGINS)))
def test_only_listed_hosts_and_origins_pass(host: str, origin: str) -> None:
    """The edge checks the host of every request, and the endpoint the origin (M1)."""
    names = ("127.0.0.1", "localhost", "gate.example.com", "::1", "gateway")
    refused = HostAllowlist(names).check([host.encode()], is_old=False)
    assert (refused is None) is (host in SERVED)
    if refused is not None:
        assert refused.kind.value in (400, 421)
        return
    check = OriginCheck(("https://app.example.com",), "https://gate.example.com")
    if origin in ORIGINS[:3]:
        check.check([origin] if origin else [], host)
    else:
        with pytest.raises(AgentOriginError):
            check.check([origin], host)


def test_a_page_of_the_same_host_and_any_page_by_a_star_pass_and_two_origins_do_not() -> None:
    OriginCheck((), None).check(["http://LOCALHOST:4600"], "localhost:4600")
    OriginCheck(("*",), None).check(["https://evil.example"], "localhost")
    check = OriginCheck(("https://App.example.com",), "https://Gate.example.com/")
    for origin in ("https://app.example.com", "https://gate.example.com"):
        check.check([origin], "behind-a-proxy:4600")
    with pytest.raises(AgentOriginError):
        OriginCheck((), None).check(["http://localhost", "http://localhost"], "localhost")


async def test_a_foreign_origin_gets_403_without_any_configuration() -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        reply = await agents.post("tools/list", headers={"origin": "https://evil.example"})
    assert reply.status == 403
    assert reply.error["data"]["code"] == "origin_not_allowed"
    assert "add" not in reply.text


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_without_a_caller_every_method_leads_to_the_way_to_connect(method: str) -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        reply = await agents.send("{}", JSON, method=method)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == (
        f'Bearer scope="mcp:read mcp:write", resource_metadata="{METADATA}"'
    )
    assert reply.error["data"]["code"] == "not_connected"


@pytest.mark.parametrize("token", ["hg_live_unknown", "hg_oat_unknown", "sk-other"])
async def test_a_token_that_is_not_valid_gets_401_and_invalid_token(token: str) -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        reply = await agents.post("tools/list", token=token)
        # The id of a session proves nothing (M2).
        with_session = await agents.post(
            "tools/list", token=token, headers={"mcp-session-id": "known"}
        )
        in_other_header = await agents.send("{}", {**JSON, "api-key": token})
    assert (reply.status, with_session.status, in_other_header.status) == (401, 401, 401)
    for each in (reply, in_other_header):
        assert each.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


async def test_a_token_for_another_server_gets_401() -> None:
    async with running_agents(
        FakeSource([make_tool("add")]), public_url="https://other.example.com"
    ) as agents:
        reply = await agents.post("tools/list", token=OAT)
    assert reply.status == 401
    assert "https://other.example.com/.well-known/" in reply.headers["www-authenticate"]


async def test_a_key_comes_in_any_of_its_headers() -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        for name in ("x-api-key", "api-key"):
            reply = await agents.post("tools/list", token=None, headers={name: KEY.decode()})
            assert reply.status == 200


async def test_an_address_outside_the_networks_of_a_key_is_refused() -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        networks = (parse_network("198.51.100.0/24"),)
        agents.grants.grants[KEY] = msgspec.structs.replace(GRANT, networks=networks)
        reply = await agents.post("tools/list")
    assert reply.status == 403


async def test_there_is_no_stream_to_open_and_no_session_to_end() -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        for method in ("GET", "DELETE", "PUT"):
            headers = {**JSON, "authorization": f"Bearer {KEY.decode()}"}
            reply = await agents.send("", headers, method=method)
            assert (reply.status, reply.headers["allow"]) == (405, "POST")


async def test_a_connected_application_asks_for_the_scope_that_it_lacks() -> None:
    tools = [
        make_tool("look", is_read_only=True, scope="mcp:read"),
        make_tool("act"),
        make_tool("set_up", scope="mcp:full"),
        make_tool("hidden", is_listed=False),
    ]
    async with running_agents(FakeSource(tools)) as agents:
        listed = (await agents.post("tools/list", token=OAT)).result["tools"]
        reply = await agents.post("tools/call", {"name": "set_up"}, token=OAT)
        inner = await agents.post(
            "tools/call", {"name": "call_tool", "arguments": {"name": "hidden"}}, token=OAT
        )
        allowed = await agents.post("tools/call", {"name": "look"}, token=OAT)
        # A key has nobody whom it could ask, so it gets a result.
        key = await agents.call("set_up")
    assert [each["name"] for each in listed] == ["look"]
    assert reply.status == inner.status == 403
    assert reply.headers["www-authenticate"] == (
        'Bearer error="insufficient_scope", scope="mcp:read mcp:write mcp:full", '
        f'resource_metadata="{METADATA}"'
    )
    assert 'scope="mcp:read mcp:write"' in inner.headers["www-authenticate"]
    assert allowed.status == 200
    assert key["structuredContent"]["error"]["code"] == "tool_forbidden"


async def test_management_keys_set_up_and_call_no_models() -> None:
    tools = [make_tool("set_up", scope="mcp:full"), make_tool("chat", endpoints=("chat",))]
    async with running_agents(FakeSource(tools)) as agents:
        listed = (await agents.post("tools/list", token=ADMIN_KEY.decode())).result["tools"]
        denied = await agents.call("chat", token=ADMIN_KEY.decode())
    assert [each["name"] for each in listed] == ["set_up"]
    assert denied["isError"] is True


async def test_a_body_that_is_too_large_gets_413_before_and_while_it_arrives() -> None:
    async with running_agents(
        FakeSource([make_tool("add")]), limits=EndpointLimits(body_bytes_max=200)
    ) as agents:
        headers = {**JSON, "authorization": f"Bearer {KEY.decode()}"}
        whole = await agents.send("x" * 201, headers)

        async def send_pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 100

        streamed = await agents.http.post(
            "http://127.0.0.1:4600/mcp", content=send_pieces(), headers=headers
        )
    assert (whole.status, streamed.status_code) == (413, 413)


@pytest.mark.parametrize(
    "body",
    [
        *("", "{", "[]", "1", '{"jsonrpc":"2.0"}', '{"jsonrpc":"2.0","id":1,"method":7}'),
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}',
        "[" * 100_000,
    ],
)
async def test_a_message_of_another_shape_gets_an_error(body: str) -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        for version in ("2026-07-28", HANDSHAKE):
            headers = {
                **JSON,
                "authorization": f"Bearer {KEY.decode()}",
                "mcp-protocol-version": version,
            }
            reply = await agents.send(body, headers)
            assert reply.status in (200, 400)
            assert reply.error["code"] < 0


async def test_beyond_the_limit_requests_get_503_and_come_again() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def wait(_call: ToolCall) -> ToolResult:
        entered.set()
        await leave.wait()
        return ToolResult(structured={})

    async with running_agents(
        FakeSource([make_tool("wait")], act=wait), limits=EndpointLimits(requests_max=1)
    ) as agents:
        first = asyncio.create_task(agents.call("wait"))
        await entered.wait()
        busy = await agents.post("tools/list")
        leave.set()
        result = await first
    assert (busy.status, busy.headers["retry-after"]) == (503, "1")
    assert result["isError"] is False
    assert agents.endpoint.running == 0


async def test_calls_count_once_against_the_rate_of_the_key() -> None:
    execute = setup_tools.EXECUTE_INTEGRATION
    tools = [
        *(make_tool("platform"), asset_tools.UPLOAD_ASSET, setup_tools.LIST_INTEGRATIONS, execute),
        make_tool("other_server", source="github"),
        make_tool("model", endpoints=("chat.completions",), counts_itself=True),
    ]
    async with running_agents(FakeSource(tools)) as agents:
        agents.grants.grants[KEY] = msgspec.structs.replace(GRANT, requests_per_minute=5)
        for name in ("model", execute.name):
            await agents.call(name)
        await agents.post("tools/list")
        assert agents.rates.taken == 0
        for name in ("other_server", "upload_asset", "list_integrations", "nothing"):
            await agents.call(name)
        await agents.post("resources/read", {"uri": "headgate://models"})
        assert agents.rates.taken == 5
        limited = await agents.call("platform")
        reading = await agents.post("resources/read", {"uri": "headgate://models"})
    assert limited["structuredContent"]["error"]["code"] == "rate_limited"
    assert (reading.status, reading.headers["retry-after"]) == (429, "12")


@pytest.mark.parametrize("text", ["NaN", "1e999", '"\\ud800"', "1" * 5_000])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
async def test_what_only_lenient_parsers_read_is_refused_and_so_never_uncounted(
    text: str, encoding: str
) -> None:
    params = f'{{"name":"platform","arguments":{{"a":{text}}}}}'
    body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'
    source = FakeSource([make_tool("platform")])
    async with running_agents(source) as agents:
        agents.grants.grants[KEY] = msgspec.structs.replace(GRANT, requests_per_minute=5)
        for version in ("2026-07-28", HANDSHAKE):
            headers = {"authorization": f"Bearer {KEY.decode()}", "mcp-protocol-version": version}
            reply = await agents.send(body.encode(encoding), {**JSON, **headers})
            assert (reply.status, reply.error["code"]) == (400, -32700)
    assert source.calls == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('[{"jsonrpc":"2.0","id":1,"method":"ping"}]', "A batch is not taken"),
        ("[]", "A batch is not taken"),
        ("{}", "it has no `method`"),
        ('"ping"', "it has no `method`"),
        ('{"id":1,"method":"ping"}', '`jsonrpc` is not "2.0"'),
        *(
            (f'{{"jsonrpc":"2.0","id":{each},"method":"ping"}}', "a text or a whole number")
            for each in ("null", "1.5", "true", "[1]", "{}")
        ),
    ],
)
async def test_what_is_no_message_is_refused_in_one_sentence(body: str, told: str) -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        for version in ("2026-07-28", HANDSHAKE):
            headers = {"authorization": f"Bearer {KEY.decode()}", "mcp-protocol-version": version}
            reply = await agents.send(body.encode(), {**JSON, **headers})
            assert (reply.status, reply.error["code"]) == (400, -32600)
            assert told in reply.error["message"]
            assert len(reply.error["message"]) < 100


async def test_memory_of_bodies_is_counted_for_their_key_as_long_as_they_are_held() -> None:
    bodies = BodyBudget(1_000)
    held: list[int] = []

    async def look(_call: ToolCall) -> ToolResult:
        held.append(bodies.taken)
        return ToolResult(structured={})

    async with running_agents(FakeSource([make_tool("add")], act=look), bodies=bodies) as agents:
        await agents.call("add", {"x": 1})
        bodies.take("another", 900)
        full = await agents.post("tools/call", {"name": "add", "arguments": {"x": 2}})
    assert (full.status, full.headers["retry-after"]) == (503, "1")
    assert len(held) == 1
    assert held[0] > 50
    assert bodies.taken == 900


async def test_answers_are_not_stored_and_name_their_request() -> None:
    async with running_agents(FakeSource([make_tool("add")])) as agents:
        reply = await agents.post("tools/list")
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["x-headgate-request-id"] == "req_1"


async def test_a_client_that_leaves_ends_its_call() -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def wait(_call: ToolCall) -> ToolResult:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    for version in ("2026-07-28", HANDSHAKE):
        entered.clear()
        ended.clear()
        async with running_agents(FakeSource([make_tool("wait")], act=wait)) as agents:
            call = asyncio.create_task(agents.call("wait", modern=version != HANDSHAKE))
            await entered.wait()
            call.cancel()
            await asyncio.wait_for(ended.wait(), 5)


def test_server_starts_without_the_packages_that_few_requests_need() -> None:
    listing = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, json, headgate.main.server; print(json.dumps(sorted(sys.modules)))",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    heavy = {"mcp", "mcp_types", "pydantic", "obstore", "jsonschema_rs", "cel"}
    assert heavy.isdisjoint(json.loads(listing.stdout))
