"""The MCP endpoint in this process, over tools that a test makes up, and clients of both eras."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec

from headgate.assets.model.handle import HandleInfo
from headgate.audit.model import Actor, ActorKind
from headgate.connectors.model.caller import ToolCaller, find_key_scopes
from headgate.connectors.model.tool import ToolCall, ToolDefinition, ToolResult
from headgate.keys.model import InvalidApiKeyError
from headgate.kit.db.repetition_store import StartedWork, WorkRequest
from headgate.kit.errors import HeadgateError
from headgate.kit.rate_limiter import RateLimitedError
from headgate.mcp import protocol
from headgate.mcp.authentication import AgentAuthentication
from headgate.mcp.endpoint import EndpointLimits, McpEndpoint
from headgate.mcp.origins import OriginCheck
from headgate.mcp.repetitions import Repetitions
from headgate.mcp.resources import ResourceRegistry, SharedResource
from headgate.mcp.tool_runner import OnCalled, RunLimits, ToolRunner
from headgate.mcp.toolbox import Toolbox
from headgate.oauth.model.errors import RefusedAccessTokenError
from headgate.oauth.model.grant import OAuthGrant
from headgate.relay.body_budget import BodyBudget
from headgate.relay.ports import Grant

KEY, ADMIN_KEY, OAT = b"hg_live_known", b"hg_admin_known", "hg_oat_known"
URL = "http://127.0.0.1:4600/mcp"
RESOURCE = URL
GRANT = Grant(key_id="key_1", organization_id="org_1", project_id="prj_1")
ADMIN_GRANT = msgspec.structs.replace(GRANT, key_id="key_2", management=True)
MODERN, HANDSHAKE = "2026-07-28", "2025-11-25"
ACCEPT = "application/json, text/event-stream"
PREFIX = "io.modelcontextprotocol/"
ENVELOPE = {
    f"{PREFIX}protocolVersion": MODERN,
    f"{PREFIX}clientCapabilities": {},
    f"{PREFIX}clientInfo": {"name": "test", "version": "1"},
}

Act = Callable[[ToolCall], ToolResult]


def make_caller(grant: Grant = GRANT, scopes: Sequence[str] | None = None) -> ToolCaller:
    return ToolCaller(
        grant=grant,
        scopes=find_key_scopes(grant) if scopes is None else frozenset(scopes),
        actor=Actor(ActorKind.KEY, grant.key_id),
    )


def make_tool(name: str, **given: Any) -> ToolDefinition:
    defaults: dict[str, Any] = {
        "title": name,
        "description": f"Do {name}.",
        "input_schema": {"type": "object", "properties": {"x": {"type": "integer"}}},
    }
    return ToolDefinition(name=name, **{**defaults, **given})


@dataclass
class FakeSource:
    """Offer tools, and answer each call with its arguments unless `act` says otherwise."""

    tools: list[ToolDefinition]
    act: Any = None
    calls: list[ToolCall] = field(default_factory=list[ToolCall])

    async def list_tools(self, caller: ToolCaller) -> Sequence[ToolDefinition]:
        return self.tools

    async def call_tool(self, tool: ToolDefinition, call: ToolCall) -> ToolResult:
        self.calls.append(call)
        if self.act is not None:
            return await self.act(call)
        return ToolResult(structured={"tool": tool.name, "arguments": call.arguments})


class FakeGrants:
    def __init__(self) -> None:
        self.grants = {KEY: GRANT, ADMIN_KEY: ADMIN_GRANT}

    def find(self, token: bytes) -> Grant:
        try:
            return self.grants[token]
        except KeyError:
            raise InvalidApiKeyError("This is not a valid Headgate key.") from None


class FakeAccessTokens:
    def __init__(self) -> None:
        self.scopes: tuple[str, ...] = ("mcp:read",)

    async def find(self, token: str, resource: str) -> tuple[OAuthGrant, Grant]:
        if (token, resource) != (OAT, RESOURCE):
            raise RefusedAccessTokenError("This access token is unknown.")
        grant = OAuthGrant(
            id="oag_1",
            key_id=GRANT.key_id,
            person_id="per_1",
            organization_id=GRANT.organization_id,
            project_id=GRANT.project_id,
            scopes=self.scopes,
            expires_at=2e9,
            client_name="Claude",
        )
        return grant, GRANT


class FakeHandles:
    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.refusal: HeadgateError | None = None

    async def put(
        self, caller: ToolCaller, content: bytes, media_type: str, name: str
    ) -> HandleInfo:
        if self.refusal is not None:
            raise self.refusal
        handle_id = f"hnd_{len(self.contents)}"
        self.contents[handle_id] = content
        return HandleInfo(id=handle_id, media_type=media_type, bytes=len(content), expires_at=2e9)

    async def get(self, caller: ToolCaller, handle_id: str) -> tuple[HandleInfo, bytes]:
        content = self.contents[handle_id]
        info = HandleInfo(
            id=handle_id, media_type="application/json", bytes=len(content), expires_at=2e9
        )
        return info, content


class CountedRates:
    def __init__(self) -> None:
        self.taken = 0

    def take(self, key: Any) -> None:
        self.taken += 1
        if self.taken > key.requests_per_minute:
            raise RateLimitedError("Slow down.", wait_seconds=12.0, rate_limits=())


class NoSignatures:
    def check(self, *_given: Any) -> Any:
        raise AssertionError("no request here is signed")

    async def claim(self, _signed: Any) -> None:
        raise AssertionError("no request here is signed")


class FakeStartedCalls:
    """Remember started work, as the database does; `now` is the clock of the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.window = 120.0
        self.works: dict[bytes, StartedWork] = {}

    async def start(self, request: WorkRequest) -> StartedWork:
        known = self.works.get(request.id)
        if known is not None and not request.renew and known.started_at > self.now - self.window:
            return msgspec.structs.replace(known, is_repeated=True)
        work = StartedWork(b"%d" % len(self.works), self.now, is_repeated=False)
        if known is not None:
            work = msgspec.structs.replace(work, nonce=known.nonce + b"+")
        self.works[request.id] = work
        return work


@dataclass
class Reply:
    status: int
    headers: httpx2.Headers
    text: str

    @property
    def messages(self) -> list[Any]:
        """Return the messages of a reply in either form."""
        if "text/event-stream" in self.headers.get("content-type", ""):
            lines = [each for each in self.text.splitlines() if each.startswith("data: ")]
            return [json.loads(each.removeprefix("data: ")) for each in lines]
        return [json.loads(self.text)] if self.text else []

    @property
    def result(self) -> Any:
        return self.messages[-1]["result"]

    @property
    def error(self) -> Any:
        return self.messages[-1]["error"]


@dataclass
class FakeAgents:
    """Hold an endpoint with its parts; `post` sends a message as a client of either era."""

    endpoint: McpEndpoint
    http: httpx2.AsyncClient
    grants: FakeGrants
    access_tokens: FakeAccessTokens
    handles: FakeHandles
    rates: CountedRates
    runner: ToolRunner
    started: FakeStartedCalls

    async def post(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        modern: bool = True,
        token: str | None = KEY.decode(),
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        given = dict(params or {})
        sent = {"accept": ACCEPT, "content-type": "application/json"}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        sent["mcp-protocol-version"] = MODERN if modern else HANDSHAKE
        if modern:
            given["_meta"] = {**ENVELOPE, **given.get("_meta", {})}
            sent["mcp-method"] = method
            name = given.get("name") or given.get("uri")
            if name is not None:
                sent["mcp-name"] = str(name)
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": given}
        return await self.send(json.dumps(message), {**sent, **(headers or {})})

    async def send(
        self, body: str | bytes, headers: Mapping[str, str], *, method: str = "POST"
    ) -> Reply:
        content = body if method == "POST" else None
        answer = await self.http.request(method, URL, content=content, headers=dict(headers))
        return Reply(answer.status_code, answer.headers, answer.text)

    async def call(self, name: str, arguments: Any = None, **given: Any) -> Any:
        """Return the result of a tool call."""
        reply = await self.post("tools/call", {"name": name, "arguments": arguments or {}}, **given)
        return reply.result


async def read_models(caller: ToolCaller) -> Any:
    return {"data": [{"id": "gpt-4o-mini", "for": caller.grant.key_id}]}


@contextlib.asynccontextmanager
async def running_agents(
    *sources: FakeSource,
    origins: Sequence[str] = (),
    public_url: str | None = None,
    limits: EndpointLimits | None = None,
    run_limits: RunLimits | None = None,
    bodies: BodyBudget | None = None,
    log_call: OnCalled | None = None,
) -> AsyncGenerator[FakeAgents]:
    grants, access_tokens, handles = FakeGrants(), FakeAccessTokens(), FakeHandles()
    rates, started = CountedRates(), FakeStartedCalls()
    toolbox = Toolbox(sources)
    runner = ToolRunner(Repetitions(started), handles, run_limits or RunLimits(), log_call)
    resources = ResourceRegistry(
        [SharedResource("headgate://models", "models", "Models", "The models.", read_models)]
    )
    signatures: Any = NoSignatures()
    endpoint = McpEndpoint(
        AgentAuthentication(grants, signatures, access_tokens),
        toolbox,
        origins=OriginCheck(origins, public_url),
        signatures=signatures,
        rate_limits=rates,
        make_id=lambda prefix: f"{prefix}_1",
        build_server=lambda: protocol.build_server(toolbox, runner, resources),
        public_url=public_url,
        limits=limits or EndpointLimits(),
        bodies=bodies,
    )
    transport = httpx2.ASGITransport(endpoint, client=("203.0.113.5", 1))
    async with httpx2.AsyncClient(transport=transport) as http:
        yield FakeAgents(endpoint, http, grants, access_tokens, handles, rates, runner, started)
    await endpoint.close()
