"""The one place that authorizes requests of the platform API (law 7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.requests import Request

from headgate.accounts.model import AccountNotFoundError
from headgate.accounts.service import WorkspaceIndex
from headgate.api.access import Access, Audience
from headgate.api.errors import (
    ForbiddenError,
    ForbiddenOriginError,
    MissingOrganizationHeaderError,
    NotAuthenticatedError,
)
from headgate.api.principal import ANONYMOUS, Principal, PrincipalKind
from headgate.keys.model import InvalidApiKeyError, KeyKind
from headgate.keys.model.request_keys import find_grant
from headgate.keys.service import KeyIndex
from headgate.kit.http.addresses import check_address
from headgate.kit.rate_limiter import RateLimiter
from headgate.oauth.model.grant import ACCESS_TOKEN_PREFIX, OAuthGrant
from headgate.relay.ports import Grant
from headgate.signatures.model import HEADER, Signatures, SignedRequest, check_values

ORGANIZATION_HEADER = "x-organization-id"
KEY_HEADERS = ("x-api-key", "api-key")
KEY_PREFIXES = tuple(f"hg_{kind.value}_" for kind in KeyKind)
SUSPENDED = "This organization is suspended; ask the operator of this installation."
SIGN_IN = "Sign in, or send a management key (hg_admin_...) in the header Authorization."
APPLICATION_ELSEWHERE = "The access token of a connected application runs actions and tools only."
SEND_KEY = "Send an API key (hg_live_...) in the header Authorization, or connect the application."
NOT_A_MANAGER = (
    "You do not manage this organization: it is not yours, or your role does not allow it."
)


class AuthorizedPrincipal(msgspec.Struct, frozen=True):
    principal: Principal
    organization_id: str | None


Identify = Callable[[Request, str], Awaitable[Principal | None]]
"""Return the person of a request and of its bearer token (empty: none), or None. Raise
`NotAuthenticatedError` for a login that has ended."""


FindApplication = Callable[[Request, str], Awaitable[tuple[OAuthGrant, Grant]]]
"""Return the connected application of an access token that was issued for this server, and the
grant of its key. Raise a `HeadgateError` of kind UNAUTHENTICATED."""


class Gate:
    def __init__(
        self,
        key_index: KeyIndex,
        rate_limiter: RateLimiter,
        identify: Identify,
        signatures: Signatures,
        workspaces: WorkspaceIndex,
        *,
        public_url: str | None = None,
        find_application: FindApplication | None = None,
    ) -> None:
        self._find_application = find_application
        self._key_index = key_index
        self._rate_limiter = rate_limiter
        self._identify = identify
        self._signatures = signatures
        self._workspaces = workspaces
        self._public_url = public_url

    async def admit(
        self, request: Request, access: Access, *, is_key_enough: bool = False
    ) -> AuthorizedPrincipal:
        """Return who sends the request, if its policy allows them. With `is_key_enough`, a key
        names its organization without a header. A path with a workspace names it in any case.

        Raise `NotAuthenticatedError`, `InvalidApiKeyError`, `MissingOrganizationHeaderError`,
        `ForbiddenError` or a subclass, `AccountNotFoundError`; for keys `AddressOutOfScopeError`
        and `RateLimitedError`.
        """
        if access.audience is Audience.ANYONE:
            check_origin(request, self._public_url)
            return AuthorizedPrincipal(ANONYMOUS, None)
        if access.audience is Audience.TOOLS:
            principal = await self._find_tool_caller(request, access)
            named = request.headers.get(ORGANIZATION_HEADER, "").strip()
            return AuthorizedPrincipal(principal, check_tool_caller(principal, access, named))
        principal = await self._find_principal(request)
        if access.audience is Audience.PERSON:
            if principal.kind is not PrincipalKind.PERSON:
                raise ForbiddenError("Only a signed-in person can do this; an API key cannot.")
            return AuthorizedPrincipal(principal, None)
        if access.audience is Audience.PLATFORM:
            check_operator(principal, access)
            return AuthorizedPrincipal(principal, None)
        workspace = request.path_params.get("workspace")
        if workspace is not None:
            named = self._find_workspace(principal, workspace)
            return AuthorizedPrincipal(principal, check_manager(principal, access, named))
        named = request.headers.get(ORGANIZATION_HEADER, "").strip()
        if not named and is_key_enough and principal.grant is not None:
            named = principal.grant.organization_id
        return AuthorizedPrincipal(principal, check_manager(principal, access, named))

    def _find_workspace(self, principal: Principal, workspace: str) -> str:
        """Return the principal's organization that a path names. Raise `AccountNotFoundError`."""
        grant = principal.grant
        known = principal.roles if grant is None else (grant.organization_id,)
        organization_id = self._workspaces.find_organization(known, workspace)
        if organization_id is None:
            raise AccountNotFoundError("There is no such organization.")
        return organization_id

    async def _find_tool_caller(self, request: Request, access: Access) -> Principal:
        """Return the principal of a request for tools, which may be a connected application."""
        counts = not access.counts_itself
        for token in read_tokens(request):
            if token.startswith(ACCESS_TOKEN_PREFIX) and self._find_application is not None:
                application, grant = await self._find_application(request, token)
                self._check_limits(request, grant, counts=counts)
                return Principal(
                    kind=PrincipalKind.KEY,
                    id=grant.key_id,
                    name=application.client_name,
                    grant=grant,
                    application=application,
                )
        return await self._find_principal(request, counts=counts, advice=SEND_KEY)

    async def _find_principal(
        self, request: Request, *, counts: bool = True, advice: str = SIGN_IN
    ) -> Principal:
        tokens = read_tokens(request)
        keys = [token for token in tokens if token.startswith(KEY_PREFIXES)]
        others = [token for token in tokens if token not in keys]
        if keys:
            try:
                return self._find_key(request, keys, counts=counts)
            except InvalidApiKeyError:
                if not others:
                    raise
        principal = await self._identify(request, others[0] if others else "")
        if principal is None:
            if any(token.startswith(ACCESS_TOKEN_PREFIX) for token in others):
                advice = f"{APPLICATION_ELSEWHERE} {advice}"
            raise NotAuthenticatedError(advice)
        return principal

    def _find_key(self, request: Request, tokens: Sequence[str], *, counts: bool) -> Principal:
        presented = [token.encode("utf-8", "replace") for token in tokens]
        grant, token = find_grant(self._key_index, presented)
        signed = self._check_signature(request, grant)
        self._check_limits(request, grant, counts=counts)
        return Principal(
            kind=PrincipalKind.KEY, id=grant.key_id, grant=grant, signed=signed, token=token
        )

    def _check_limits(self, request: Request, grant: Grant, *, counts: bool) -> None:
        """Check the network and the rate of a key. Without `counts`, the request itself does not
        count."""
        if grant.networks:
            check_address(request.client.host if request.client else "", grant.networks)
        if not grant.requests_per_minute:
            return
        if counts:
            self._rate_limiter.take(grant)
        else:
            self._rate_limiter.check(grant, with_tokens=False)

    def _check_signature(self, request: Request, grant: Grant) -> SignedRequest | None:
        values = [value.encode() for value in request.headers.getlist(HEADER)]
        query: bytes = request.scope["query_string"]
        target: bytes = request.scope["raw_path"] + (b"?" + query if query else b"")
        return check_values(self._signatures, grant, request.method.encode(), target, values)


def read_tokens(request: Request) -> list[str]:
    """Return the tokens of a request: a bearer token, `x-api-key` and `api-key`, in this order."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    tokens = [token] if scheme.lower() == "bearer" else []
    for name in KEY_HEADERS:
        tokens += request.headers.getlist(name)
    return [token.strip() for token in tokens if token.strip()]


def check_origin(request: Request, public_url: str | None) -> None:
    """Raise `ForbiddenOriginError` for a change that a page of another site made a browser send.
    Operations without a login have no session token that would prove it (login CSRF)."""
    origin = request.headers.get("origin")
    if origin is None or request.method in ("GET", "HEAD"):
        return
    host = origin.partition("://")[2].lower()
    if origin.lower() == public_url or (host and host == request.headers.get("host", "").lower()):
        return
    raise ForbiddenOriginError(
        "A page of another site sent this request. If that page is served by this installation, "
        "set HEADGATE_PUBLIC_URL to its address."
    )


def check_operator(principal: Principal, access: Access) -> None:
    """Raise `ForbiddenError` unless the principal is the operator of the server."""
    if principal.is_operator:
        return
    grant = principal.grant
    if grant is None or not grant.permissions or not principal.holds(access.permission):
        raise ForbiddenError(
            "Only the operator of this installation can do this: a person who is an operator, "
            f"or a management key with the permission {access.permission}."
        )


def check_tool_caller(principal: Principal, access: Access, named: str) -> str:
    """Return the organization of a caller of tools; `named` is the one in the header, empty without
    it. Raise `ForbiddenError` and `MissingOrganizationHeaderError`."""
    grant = principal.grant
    if grant is None:
        if not access.roles:
            raise ForbiddenError("Only an API key or a connected application can do this.")
        return check_manager(principal, access, named)
    if named not in ("", grant.organization_id):
        raise ForbiddenError(NOT_A_MANAGER)
    if grant.management and not principal.holds(access.permission):
        raise ForbiddenError(f"This key does not hold the permission {access.permission}.")
    return grant.organization_id


def check_manager(principal: Principal, access: Access, organization_id: str) -> str:
    """Return the named organization, if the principal manages it, or is one of its inference keys
    and may see what is its own. Raise `ForbiddenError` and `MissingOrganizationHeaderError`."""
    grant = principal.grant
    if grant is not None and not grant.management and not access.own_key:
        raise ForbiddenError(
            "This is an inference key (hg_live_...); the platform API needs a management key "
            "(hg_admin_...) or a person's login."
        )
    if not organization_id:
        raise MissingOrganizationHeaderError("Name the organization: X-Organization-ID: org_...")
    if grant is None:
        if principal.roles.get(organization_id) not in access.roles:
            raise ForbiddenError(NOT_A_MANAGER)
        if organization_id in principal.suspended:
            raise ForbiddenError(SUSPENDED)
        return organization_id
    if grant.organization_id != organization_id:
        raise ForbiddenError(NOT_A_MANAGER)
    if not grant.management:
        return organization_id
    if not access.permission:
        raise ForbiddenError("Only a signed-in person can do this; an API key cannot.")
    if not principal.holds(access.permission):
        raise ForbiddenError(f"This key does not hold the permission {access.permission}.")
    return organization_id
