"""The ASGI application at `/mcp`: everything that is decided before the SDK sees a request.

The order is: origin, caller, method, place, body, then the tool of a call. The host was checked by
the edge. Every request stands for itself, whichever replica gets it; nobody has a session.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import (
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
    MutableMapping,
)
from typing import Any, Protocol

import msgspec

from headgate.connectors.model.errors import describe_error
from headgate.kit.errors import HeadgateError, Kind, drop_trace
from headgate.kit.rate_limiter import LimitedKey, RateLimitedError
from headgate.mcp.authentication import KEY_HEADERS, Agent, AgentAuthentication, AgentRequest
from headgate.mcp.errors import AgentJsonError, AgentMessageError, AgentsBusyError
from headgate.mcp.exchange import SCOPE_KEY, AgentExchange
from headgate.mcp.message import (
    Message,
    Receive,
    find_called,
    read_body,
    read_head,
    replay,
)
from headgate.mcp.origins import OriginCheck
from headgate.mcp.toolbox import OfferedTool, Toolbox
from headgate.oauth.model.challenge import (
    INSUFFICIENT_SCOPE,
    INVALID_TOKEN,
    build_challenge,
    find_base_url,
)
from headgate.oauth.model.scope import DEFAULT_SCOPES, close_scopes
from headgate.relay.body_budget import BodyBudget
from headgate.signatures.model import Signatures, check_body

JSON = b"application/json"
REFUSED, NO_JSON, NO_MESSAGE = -32000, -32700, -32600
CODES: Mapping[type[HeadgateError], int] = {AgentJsonError: NO_JSON, AgentMessageError: NO_MESSAGE}
"""The codes of JSON-RPC for errors that servers define, and for what cannot be read."""
RATED = frozenset({"tools/call", "resources/read"})
"""What counts against the requests per minute of a key, unless the tool counts itself. A
handshake and a list are free: clients repeat them as they like."""
BLANKS = b" \t"
"""What may stand around the value of a header and is no part of it (RFC 9110)."""
NO_STORE, NO_SNIFF = (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")
TOKEN_HEADERS = frozenset({b"authorization", *KEY_HEADERS})

Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class RateLimits(Protocol):
    def take(self, key: LimitedKey) -> object:
        """Count a request of a key. Raise `RateLimitedError`."""
        ...


class EndpointLimits(msgspec.Struct, frozen=True):
    body_bytes_max: int = 8 * 1024 * 1024
    requests_max: int = 1_000


DEFAULT_LIMITS = EndpointLimits()
OnDenied = Callable[[HeadgateError, AgentRequest], None]


def ignore_denied(_error: HeadgateError, _request: AgentRequest) -> None:
    """Tell nobody."""


class InsufficientScopeError(HeadgateError):
    """The connected application lacks a scope that the tool needs.

    Connect it again with the scope that `WWW-Authenticate` names.
    """

    kind = Kind.FORBIDDEN
    code = "insufficient_scope"

    def __init__(self, message: str, *, scopes: Iterable[str]) -> None:
        super().__init__(message)
        self.scopes = tuple(scopes)


class McpEndpoint:
    """Answer requests to `/mcp`. The memory of their bodies is counted in `bodies`, for their keys.
    `build_server` imports and builds the SDK's server; it is called for the first request, in a
    thread, because importing the SDK takes about a second."""

    def __init__(
        self,
        authentication: AgentAuthentication,
        toolbox: Toolbox,
        *,
        origins: OriginCheck,
        signatures: Signatures,
        rate_limits: RateLimits,
        make_id: Callable[[str], str],
        build_server: Callable[[], Any],
        public_url: str | None = None,
        limits: EndpointLimits = DEFAULT_LIMITS,
        bodies: BodyBudget | None = None,
        on_denied: OnDenied = ignore_denied,
    ) -> None:
        self._authentication = authentication
        self._toolbox = toolbox
        self._origins = origins
        self._signatures = signatures
        self._rate_limits = rate_limits
        self._make_id = make_id
        self._public_url = public_url
        self._limits = limits
        self._bodies = bodies or BodyBudget(limits.body_bytes_max * limits.requests_max)
        self._on_denied = on_denied
        self._runtime = LazyRuntime(build_server, body_bytes_max=limits.body_bytes_max)
        self.requests = 0
        self.refusals = 0
        self.running = 0

    async def close(self) -> None:
        """End the SDK's server, after the last request."""
        await self._runtime.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = self._make_id("req")
        request = read_request(scope, self._public_url)
        self.requests += 1
        self.running += 1
        try:
            await self._answer(request, request_id, scope, receive, with_headers(send, request_id))
        except HeadgateError as error:
            self.refusals += 1
            self._on_denied(error, request)
            await refuse(error, request, with_headers(send, request_id))
        finally:
            self.running -= 1

    async def _answer(
        self, request: AgentRequest, request_id: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        origins = [each.decode("latin-1") for each in request.list_values(b"origin")]
        self._origins.check(origins, request.find_text(b"host"))
        agent = await self._authentication.authenticate(request)
        if request.method != b"POST":
            await respond(send, 405, b"", ((b"allow", b"POST"),))
            return
        if self.running > self._limits.requests_max:
            message = "Too many requests of agents are being answered."
            raise AgentsBusyError(message, retry_after_seconds=1.0)
        with self._hold_body(agent) as hold:
            body = await read_body(request, receive, self._limits.body_bytes_max, hold)
            await self._run(agent, body, request_id, scope, receive, send)

    @contextlib.contextmanager
    def _hold_body(self, agent: Agent) -> Generator[Callable[[int], None]]:
        """Count the bytes of a body as long as its request runs. What is yielded raises
        `BodyMemoryExhaustedError`."""
        key_id = agent.caller.grant.key_id
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if size:
                self._bodies.take(key_id, size)
                held += size

        try:
            yield hold
        finally:
            if held:
                self._bodies.give(key_id, held)

    async def _run(
        self,
        agent: Agent,
        body: bytes,
        request_id: str,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if agent.signed is not None:
            check_body(agent.signed, body)
            await self._signatures.claim(agent.signed)
        exchange = await self._prepare(agent, body, request_id)
        server = await self._runtime.open()
        headers = [(name, value.strip(BLANKS)) for name, value in scope["headers"]]
        prepared = {**scope, "headers": headers, SCOPE_KEY: exchange}
        await server(prepared, replay(body, receive), send)

    async def _prepare(self, agent: Agent, body: bytes, request_id: str) -> AgentExchange:
        """Look up the tool of a call, count it, and refuse one that needs another scope."""
        head = read_head(body)
        if head is None or head.method not in RATED:
            return AgentExchange(agent.caller, request_id)
        if head.method != "tools/call":
            self._count(agent)
            return AgentExchange(agent.caller, request_id)
        tools = await self._toolbox.open(agent.caller)
        tool = tools.find(find_called(head.params))
        check_scope(agent, tool)
        refusal: HeadgateError | None = None
        if tool is None or not tool.definition.counts_itself:
            try:
                self._count(agent)
            except RateLimitedError as error:
                refusal = drop_trace(error)
        return AgentExchange(agent.caller, request_id, tools, refusal)

    def _count(self, agent: Agent) -> None:
        if agent.caller.grant.requests_per_minute:
            self._rate_limits.take(agent.caller.grant)


def check_scope(agent: Agent, tool: OfferedTool | None) -> None:
    """Raise `InsufficientScopeError` for a tool whose scope a connected application lacks, and for
    which it can ask its person."""
    needed = None if tool is None else tool.definition.scope
    if agent.is_connected and needed is not None and needed not in agent.caller.scopes:
        raise InsufficientScopeError(
            f"This application needs the scope {needed} for this tool. Connect it again and "
            "agree to it.",
            scopes=close_scopes((needed,)),
        )


class LazyRuntime:
    """Start the SDK's session manager for the first request, in a task of its own: it must be left
    where it was entered."""

    def __init__(self, build_server: Callable[[], Any], *, body_bytes_max: int) -> None:
        self._build_server = build_server
        self._body_bytes_max = body_bytes_max
        self._starting = asyncio.Lock()
        self._app: Any = None
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def open(self) -> Any:
        """Return the ASGI application of the SDK."""
        if self._app is None:
            async with self._starting:
                if self._app is None:
                    await self._start()
        return self._app

    async def close(self) -> None:
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        manager = await asyncio.to_thread(self._build)
        started = asyncio.Event()
        self._task = task = loop.create_task(self._hold(manager, started))
        waiting = loop.create_task(started.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            await task
        self._app = manager.asgi_app

    async def _hold(self, manager: Any, started: asyncio.Event) -> None:
        async with manager.run():
            started.set()
            await self._closing.wait()

    def _build(self) -> Any:
        module = importlib.import_module("mcp.server.streamable_http_manager")
        # It logs a line for each request; ours has the tool and the caller.
        logging.getLogger("mcp").setLevel(logging.WARNING)
        return module.StreamableHTTPSessionManager(
            self._build_server(), stateless=True, max_request_body_size=self._body_bytes_max
        )


def read_request(scope: Scope, public_url: str | None) -> AgentRequest:
    headers = scope["headers"]
    query: bytes = scope["query_string"]
    target: bytes = scope["raw_path"] + (b"?" + query if query else b"")
    client = scope.get("client")
    return AgentRequest(
        method=scope["method"].encode(),
        target=target,
        headers=headers,
        address=client[0] if client else "",
        base_url=find_base_url(public_url, headers, scheme=scope["scheme"]),
    )


def with_headers(send: Send, request_id: str) -> Send:
    own = ((b"x-headgate-request-id", request_id.encode()), NO_SNIFF)

    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), *own]
            if not any(name == NO_STORE[0] for name, _ in headers):
                headers.append(NO_STORE)
            message = {**message, "headers": headers}
        await send(message)

    return send_on


async def refuse(error: HeadgateError, request: AgentRequest, send: Send) -> None:
    """Answer with an error of ours, as JSON-RPC without an id, and with the status of its kind."""
    described = msgspec.to_builtins(describe_error(error))
    code = CODES.get(type(error), REFUSED)
    body = msgspec.json.encode(
        {
            "jsonrpc": "2.0",
            "id": None,
            "error": {"code": code, "message": error.message, "data": described},
        }
    )
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_seconds))))
    challenge = find_challenge(error, request)
    if challenge is not None:
        headers.append((b"www-authenticate", challenge.encode()))
    # The client may be gone; then nobody is told.
    with contextlib.suppress(OSError):
        await respond(send, error.kind.value, body, headers)


def find_challenge(error: HeadgateError, request: AgentRequest) -> str | None:
    """Return what tells a client how to connect, or which scopes it lacks."""
    if isinstance(error, InsufficientScopeError):
        return build_challenge(request.base_url, error.scopes, INSUFFICIENT_SCOPE)
    if error.kind is not Kind.UNAUTHENTICATED:
        return None
    has_token = any(name in TOKEN_HEADERS for name, _ in request.headers)
    return build_challenge(request.base_url, DEFAULT_SCOPES, INVALID_TOKEN if has_token else None)


async def respond(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    length = (b"content-length", b"%d" % len(body))
    start = [(b"content-type", JSON), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body, "more_body": False})
