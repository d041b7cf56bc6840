"""What the endpoints of the authorization server share: parameters, addresses and errors."""

from __future__ import annotations

import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from headgate.api.access_denials import find_denied_request
from headgate.api.errors import build_headers
from headgate.api.parsing import receive_body
from headgate.api.services import Services
from headgate.audit.model import Actor, ActorKind
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.log import mask_text
from headgate.oauth.model.challenge import build_resource, find_base_url
from headgate.oauth.model.errors import OAuthRequestError, UnknownOAuthClientError
from headgate.oauth.model.grant import OAuthGrant
from headgate.relay.ports import Grant

BODY_BYTES_MAX = 64 * 1024
FIELDS_MAX = 64
FORM = "application/x-www-form-urlencoded"
NO_STORE = {
    "cache-control": "no-store",
    "pragma": "no-cache",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
CORS = {"access-control-allow-origin": "*"}
"""For what browsers of other origins may use: it takes no cookie."""
PREFLIGHT = {
    **CORS,
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-allow-headers": "authorization, content-type, mcp-protocol-version",
    "access-control-max-age": "86400",
}

Endpoint = Callable[[Services, Request], Awaitable[Response]]
Serve = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger(__name__)


def serve_json(services: Services, endpoint: Endpoint) -> Serve:
    """Serve an endpoint for programs, with errors as `{"error", "error_description"}`."""

    async def serve(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=PREFLIGHT)
        try:
            response = await endpoint(services, request)
        except HeadgateError as error:
            record_denial(services, request, error)
            response = render_error(error)
        except ClientDisconnect:
            response = Response(status_code=408)
        # The client must get an answer, but no details: the log has those.
        except Exception:
            log.exception("oauth.fault", path=request.url.path)
            response = JSONResponse({"error": "server_error"}, 500)
        for name, value in {**NO_STORE, **CORS}.items():
            response.headers.setdefault(name, value)
        return response

    return serve


def render_error(error: HeadgateError) -> Response:
    # An application that is not known registers itself again; 401 tells it (RFC 6749 5.2).
    status = 401 if isinstance(error, UnknownOAuthClientError) else error.kind.value
    code = error.code if isinstance(error, OAuthRequestError) else find_code(error)
    body = {"error": code, "error_description": mask_text(error.message)}
    return JSONResponse(body, status, headers=build_headers(error))


def find_code(error: HeadgateError) -> str:
    """Return OAuth's code for an error of another part."""
    if error.kind in (Kind.UNAVAILABLE, Kind.LIMITED):
        return "temporarily_unavailable"
    return "invalid_request" if error.kind.value < 500 else "server_error"


def record_denial(services: Services, request: Request, error: HeadgateError) -> None:
    denied = find_denied_request(request, error)
    if denied is not None:
        services.denials.record(denied)


def find_own_url(services: Services, request: Request) -> str:
    """Return the issuer: the base URL of this server as the client knows it."""
    public_url = services.authentication.public_url
    return find_base_url(public_url, request.headers.raw, scheme=request.url.scheme)


async def find_application(
    services: Services, request: Request, token: str
) -> tuple[OAuthGrant, Grant]:
    """Return what an access token allows on this server, and the grant of its key. Raise
    `RefusedAccessTokenError`."""
    resource = build_resource(find_own_url(services, request))
    return await services.oauth.access_tokens.find(token, resource)


def find_address(request: Request) -> str:
    return request.client.host if request.client else ""


def build_anonymous_actor(request: Request) -> Actor:
    user_agent = request.headers.get("user-agent", "")[:256]
    return Actor(ActorKind.SYSTEM, "oauth", "", find_address(request), user_agent)


def parse_fields(text: str) -> dict[str, str]:
    """Return the parameters of a query or a form. Raise `OAuthRequestError` for one that is there
    twice; one without a value is as if it were not there (RFC 6749 3.1)."""
    try:
        pairs = urllib.parse.parse_qsl(text, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError as error:
        raise OAuthRequestError("The parameters cannot be read, or are too many.") from error
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise OAuthRequestError(f"The parameter {name[:64]!r} is there twice.")
        fields[name] = value
    return fields


async def receive_form(request: Request) -> dict[str, str]:
    """Return the fields of a form. Raise `OAuthRequestError` and `BodyTooLargeError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise OAuthRequestError(f"Send the parameters as {FORM}.")
    body = await receive_body(request, BODY_BYTES_MAX)
    try:
        return parse_fields(body.decode())
    except UnicodeDecodeError as error:
        raise OAuthRequestError("The parameters are not in UTF-8.") from error


def respond(body: Mapping[str, Any], status: int = 200) -> Response:
    return JSONResponse(dict(body), status)
