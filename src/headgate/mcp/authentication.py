"""Find out who sends a request to `/mcp`: an API key, or an application that a person connected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from headgate.connectors.model.caller import ToolCaller, make_application_caller, make_key_caller
from headgate.connectors.model.errors import ToolError
from headgate.keys.model.request_keys import find_grant, make_duplicate_error
from headgate.kit.errors import Kind
from headgate.kit.http.addresses import check_address
from headgate.oauth.model.challenge import build_resource
from headgate.oauth.model.grant import ACCESS_TOKEN_PREFIX, OAuthGrant
from headgate.relay.ports import Grant, Grants
from headgate.signatures.model import HEADER, Signatures, SignedRequest, check_values

KEY_HEADERS = (b"x-api-key", b"api-key")
USER_AGENT_CHARACTERS_MAX = 256


class NotConnectedError(ToolError):
    """The request carries neither an API key nor an access token.

    Connect the application by the address in `WWW-Authenticate`, or send an API key as
    `Authorization: Bearer hg_live_...`.
    """

    kind = Kind.UNAUTHENTICATED
    code = "not_connected"
    recovery = "Connect the application by the address in WWW-Authenticate, or send an API key."


class AgentRequest(msgspec.Struct, frozen=True):
    """Hold what authentication reads of a request. Names of headers are in lower case."""

    method: bytes
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    address: str
    base_url: str

    def list_values(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.headers if each == name]

    def find_text(self, name: bytes) -> str:
        return next((value.decode("latin-1") for value in self.list_values(name)), "")

    @property
    def user_agent(self) -> str:
        return self.find_text(b"user-agent")[:USER_AGENT_CHARACTERS_MAX]


class Agent(msgspec.Struct, frozen=True):
    """Hold an authenticated caller. `is_connected` is whether a person connected it, so that it can
    ask that person for more scopes; `signed` is what is left to check of a signed request."""

    caller: ToolCaller
    is_connected: bool = False
    signed: SignedRequest | None = None


class AccessTokenFinder(Protocol):
    async def find(self, token: str, resource: str) -> tuple[OAuthGrant, Grant]:
        """Return what an access token allows for the resource, and the grant of its key. Raise a
        `HeadgateError` of kind UNAUTHENTICATED."""
        ...


class AgentAuthentication:
    """Authenticate every single request: there are no sessions that could stand for a caller."""

    def __init__(
        self, grants: Grants, signatures: Signatures, access_tokens: AccessTokenFinder
    ) -> None:
        self._grants = grants
        self._signatures = signatures
        self._access_tokens = access_tokens

    async def authenticate(self, request: AgentRequest) -> Agent:
        """Return who sends the request. Raise a `HeadgateError` of kind UNAUTHENTICATED, and as
        `check_address`."""
        tokens = read_tokens(request)
        if not tokens:
            raise NotConnectedError(
                "Connect this application, or send an API key: `Authorization: Bearer hg_live_...`."
            )
        access = [each for each in tokens if each.startswith(ACCESS_TOKEN_PREFIX.encode())]
        if access:
            return await self._find_application(request, access[0].decode("ascii", "replace"))
        return self._find_key(request, tokens)

    def _find_key(self, request: AgentRequest, tokens: list[bytes]) -> Agent:
        grant, _ = find_grant(self._grants, tokens)
        if grant.networks:
            check_address(request.address, grant.networks)
        values = request.list_values(HEADER.encode())
        signed = check_values(self._signatures, grant, request.method, request.target, values)
        caller = make_key_caller(
            grant,
            address=request.address,
            user_agent=request.user_agent,
            is_signed=signed is not None,
        )
        return Agent(caller, signed=signed)

    async def _find_application(self, request: AgentRequest, token: str) -> Agent:
        application, grant = await self._access_tokens.find(token, build_resource(request.base_url))
        if grant.networks:
            check_address(request.address, grant.networks)
        caller = make_application_caller(
            application, grant, address=request.address, user_agent=request.user_agent
        )
        return Agent(caller, is_connected=True)


def read_tokens(request: AgentRequest) -> list[bytes]:
    """Return the tokens of a request in the order in which they count. Raise
    `DuplicateAuthorizationError`."""
    authorizations = request.list_values(b"authorization")
    if len(authorizations) > 1:
        raise make_duplicate_error()
    tokens: list[bytes] = []
    for value in authorizations:
        scheme, _, token = value.partition(b" ")
        if scheme.lower() == b"bearer":
            tokens.append(token)
    for name in KEY_HEADERS:
        tokens += request.list_values(name)
    return [token.strip() for token in tokens if token.strip()]
