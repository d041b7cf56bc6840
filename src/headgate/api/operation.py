"""Declares operations of the platform API: one function, with its address and policy beside it.

    OPERATIONS = Operations("API keys", "Keys of an organization.")

    @OPERATIONS.post(
        "/api/api-keys", access=organization("keys:write"), status=201, summary="Create an API key"
    )
    async def issue_key(context: RequestContext[Empty, KeyCreate]) -> IssuedKeyResponse:
        ...

The same function can be declared below `/api` and below `/v1`; for there, its first segment must be
in `llm.routes.PLATFORM_SEGMENTS`. A key needs no `X-Organization-ID` below `/v1`, and errors have
OpenAI's shape. Inference keys may call what is declared there with `own_key=True`.

Paths below `/api/ai-connection` and its siblings have the names of VM-X (`docs/vmx.md`).

The types of the function are its schema: the query, the body, and the answer (None: no content).
The function gets a `RequestContext`, whose `read` and `write` are its only access to the database,
and raises `HeadgateError`s. `organization_id` is the one that the gate let through: every query is
filtered by it.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
from starlette.requests import Request

from headgate.api.access import Access, Audience
from headgate.api.error_format import V1_PREFIX
from headgate.api.errors import InvalidFieldError, OutdatedVersionError
from headgate.api.parsing import BODY_BYTES_MAX
from headgate.api.principal import Principal
from headgate.api.services import Services
from headgate.audit.model import Actor
from headgate.connectors.model.caller import ToolCaller
from headgate.kit import idempotency
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.idempotency import IdempotencyClaim

Query = TypeVar("Query", bound=msgspec.Struct)
Body = TypeVar("Body", bound=msgspec.Struct)
Result = TypeVar("Result")


class Versioned(Protocol):
    @property
    def version(self) -> int: ...


VersionedT = TypeVar("VersionedT", bound=Versioned)

Handler = Callable[[Any], Awaitable[Any]]
CheckAccess = Callable[[], Awaitable[object]]
WORKSPACE = "/{workspace}/{environment}"
"""How a path in the names of VM-X names an organization and its project."""
VMX_PREFIXES = ("/api/ai-connection", "/api/ai-provider", "/api/ai-resource", "/api/api-key/")
ANY_VERSION = "*"
VERSION = re.compile(r'(?:W/)?("?)([0-9]{1,18})\1')
"""A version as an ETag, or as the bare number."""


class IdempotencyKeyReusedError(HeadgateError):
    """The `Idempotency-Key` was used before with another request, or that request is still running.

    Use a new key for a new request; repeat an unchanged request later.
    """

    kind = Kind.CONFLICT
    code = "idempotency_key_reused"


class RepeatedRequestError(Exception):
    """Carry the stored response of a request that is repeated."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


class ResponseHead(msgspec.Struct):
    """Hold the status, headers and cookies of a response. `cookies` are `set-cookie` values."""

    status: int
    headers: dict[str, str] = {}
    cookies: list[str] = []


class RequestContext(Generic[Query, Body]):
    """Hold one authorized request, with access to the services and the database."""

    def __init__(
        self,
        request: Request,
        services: Services,
        *,
        principal: Principal,
        organization_id: str | None,
        query: Query,
        body: Body,
        claim: IdempotencyClaim | None,
        response_head: ResponseHead,
        raw: bytes = b"",
        check_access: CheckAccess | None = None,
        request_id: str = "",
    ) -> None:
        self.request = request
        self.request_id = request_id
        self.services = services
        self.principal = principal
        self.query = query
        self.body = body
        self.response_head = response_head
        self.raw = raw
        self._check_access = check_access
        self.path: Mapping[str, str] = request.path_params
        self._organization_id = organization_id
        self._claim = claim
        client = request.client.host if request.client else ""
        self.actor: Actor = principal.to_actor(client, request.headers.get("user-agent", "")[:256])

    @property
    def organization_id(self) -> str:
        """Return the authorized organization. Only operations of an organization have one."""
        assert self._organization_id is not None, "the operation is of no organization"
        return self._organization_id

    @property
    def tool_caller(self) -> ToolCaller:
        """Return the key or the application that asks, as a caller of tools."""
        return self.principal.to_tool_caller(self.actor.address, self.actor.user_agent)

    @property
    def own_key_id(self) -> str | None:
        """Return the inference key that asks: it may see nothing but what is its own. None for
        everybody else."""
        return self.principal.own_key_id

    @property
    def claim_id(self) -> str | None:
        """Return what identifies a request that is repeated with its `Idempotency-Key`, for effects
        that take more than one transaction; None without a key."""
        return None if self._claim is None else self._claim.id.hex()

    async def check_access(self) -> None:
        """Raise as the gate does if the request would not be let through any more: for answers that
        go on for long."""
        if self._check_access is not None:
            await self._check_access()

    async def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        return await self.services.storage.read(work)

    async def write(self, work: Callable[[sa.Connection], Result]) -> Result:
        return await self.services.storage.write(work)

    async def check_repeated(self) -> None:
        """Raise `RepeatedRequestError` for a request that was answered already, and
        `IdempotencyKeyReusedError`: before work that is not undone when `create` raises them."""
        claim = self._claim
        if claim is not None:
            await self.read(lambda connection: self._check_claim(connection, claim))

    async def create(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Create an object in a transaction. `work` returns the response, which is stored for 24
        hours and returned again if the request is repeated with the same `Idempotency-Key`."""
        claim = self._claim
        if claim is None:
            return await self.write(work)

        def make_once(connection: sa.Connection) -> Result:
            now = self._check_claim(connection, claim)
            made = work(connection)
            idempotency.store_response(connection, claim, msgspec.json.encode(made), now=now)
            return made

        return await self.write(make_once)

    def _check_claim(self, connection: sa.Connection, claim: IdempotencyClaim) -> float:
        """Return the time if the request is none that was answered already."""
        now = self.services.clock.now()
        try:
            known = idempotency.find_response(connection, claim, now=now)
        except idempotency.IdempotencyMismatchError as error:
            message = "This Idempotency-Key was used for another request. Use a new one."
            raise IdempotencyKeyReusedError(message) from error
        if known is not None:
            raise RepeatedRequestError(known)
        return now

    def check_version(self, stored: VersionedT) -> VersionedT:
        """Return the object. Raise `OutdatedVersionError` if `If-Match` names another version."""
        requested = parse_if_match(self.request)
        if requested is not None and requested != stored.version:
            raise OutdatedVersionError(
                f"The object was changed and is at version {stored.version} now. Read it again."
            )
        return stored


def parse_if_match(request: Request) -> int | None:
    """Return the version that `If-Match` names, None for any. Raise `InvalidFieldError`."""
    header = request.headers.get("if-match", ANY_VERSION).strip()
    if header == ANY_VERSION:
        return None
    match = VERSION.fullmatch(header)
    if match is None:
        raise InvalidFieldError(
            'A version is a number in quotes, as in the header ETag: "3".', ("header", "If-Match")
        )
    return int(match[2])


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one operation, for its route, its documentation and its tests."""

    method: str
    path: str
    handler: Handler
    access: Access
    query: type[msgspec.Struct]
    body: type[msgspec.Struct]
    answer: Any
    status: int
    summary: str
    description: str
    tag: str
    errors: tuple[int, ...]
    example: Any
    id: str
    is_versioned: bool = False
    """Whether its object has a version, which `If-Match` can name."""
    is_managed: bool = False
    """Whether it runs managed work, whose refusals are answered with a `DenialEnvelope`."""
    is_enveloped: bool = False
    """Whether it answers `{"success", "data"}`, and errors with an `error_object`."""
    media_types: tuple[str, ...] = ()
    """The media types of a `Download`; empty for JSON."""
    body_bytes_max: int = BODY_BYTES_MAX
    """The largest body that it reads; the edge allows `gateway.protocol.CONTROL_BODY_BYTES_MAX`."""

    @property
    def is_v1(self) -> bool:
        """Return whether it is served below `/v1`: a key needs no `X-Organization-ID` there, and
        errors have OpenAI's shape."""
        return self.path.startswith(V1_PREFIX)

    @property
    def is_vmx(self) -> bool:
        """Return whether it has the names and errors of VM-X. A key needs no `X-Organization-ID`
        there, and nobody does where the path names a workspace."""
        return self.path.startswith(VMX_PREFIXES)

    @property
    def takes_organization(self) -> bool:
        """Return whether the header `X-Organization-ID` is read."""
        is_named = self.access.audience in (Audience.ORGANIZATION, Audience.TOOLS)
        return is_named and WORKSPACE not in self.path

    @property
    def changes(self) -> bool:
        """Return whether it does more than read."""
        return self.method not in ("GET", "HEAD")


class Operations:
    """Collect the operations of one module; its methods are decorators."""

    def __init__(self, tag: str, description: str) -> None:
        self.tag = tag
        self.description = description
        self.all: list[Operation] = []

    def get(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self._declare("GET", path, **declared)

    def post(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self._declare("POST", path, **declared)

    def put(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self._declare("PUT", path, **declared)

    def patch(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self._declare("PATCH", path, **declared)

    def delete(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self._declare("DELETE", path, **declared)

    def both(self, method: str, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        """Declare an operation at a path below `/v1`, and the same below `/api`."""

        def register(handler: Handler) -> Handler:
            for face in ("/v1", "/api"):
                handler = self._declare(method, f"{face}{path}", **declared)(handler)
            return handler

        return register

    def _make_id(self, handler: Handler, path: str) -> str:
        """Return the name of the handler, which its second address extends."""
        name: str = handler.__name__  # type: ignore[attr-defined]
        if all(each.handler is not handler for each in self.all):
            return name
        return f"{name}_{path.split('/')[1]}"

    def _declare(
        self,
        method: str,
        path: str,
        *,
        access: Access,
        summary: str,
        status: int = 200,
        errors: tuple[int, ...] = (),
        example: Any = None,
        is_versioned: bool | None = None,
        is_managed: bool = False,
        is_enveloped: bool = False,
        media_types: tuple[str, ...] = (),
        body_bytes_max: int = BODY_BYTES_MAX,
    ) -> Callable[[Handler], Handler]:
        """Return a decorator that registers a handler. `errors` are statuses beyond the usual
        ones. `example` is a body, or a response if there is no body. `is_versioned` is by
        default true for methods that change or remove an object. `media_types` are those of a
        `Download`. The answer of an operation that `is_enveloped` has the members `success`, which
        is true, and `data`; its errors have an `error_object`. `body_bytes_max` is for an operation
        that reads files."""

        def register(handler: Handler) -> Handler:
            assert not access.own_key or path.startswith(V1_PREFIX), "keys call models below /v1"
            hints = typing.get_type_hints(handler)
            answer = hints.pop("return")
            [context] = hints.values()
            query, body = typing.get_args(context)
            self.all.append(
                Operation(
                    method=method,
                    path=path,
                    handler=handler,
                    access=access,
                    query=query,
                    body=body,
                    answer=None if answer is type(None) else answer,
                    status=status,
                    summary=summary,
                    description=inspect.cleandoc(handler.__doc__ or ""),
                    tag=self.tag,
                    errors=errors,
                    example=example,
                    id=self._make_id(handler, path),
                    is_versioned=(
                        method in ("PUT", "PATCH", "DELETE")
                        if is_versioned is None
                        else is_versioned
                    ),
                    is_managed=is_managed,
                    is_enveloped=is_enveloped,
                    media_types=media_types,
                    body_bytes_max=body_bytes_max,
                )
            )
            return handler

        return register
