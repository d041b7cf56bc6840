"""The endpoints for programs: registration, tokens and revocation."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from headgate.api.oauth.requests import (
    BODY_BYTES_MAX,
    build_anonymous_actor,
    find_address,
    find_own_url,
    receive_form,
    respond,
)
from headgate.api.parsing import receive_body
from headgate.api.services import Services
from headgate.oauth.model.client import register_client
from headgate.oauth.model.errors import (
    InvalidOAuthGrantError,
    OAuthRequestError,
    UnsupportedGrantTypeError,
)
from headgate.oauth.model.grant import IssuedTokens
from headgate.oauth.model.request import check_resource
from headgate.oauth.model.scope import format_scopes
from headgate.oauth.service import CodeRedemption


async def register(services: Services, request: Request) -> Response:
    """Answer a registration. Nothing is stored: the `client_id` holds everything."""
    services.oauth.limiter.take(find_address(request))
    _, answer = register_client(await receive_body(request, BODY_BYTES_MAX))
    return respond({**answer, "client_id_issued_at": int(services.clock.now())}, 201)


async def issue_tokens(services: Services, request: Request) -> Response:
    services.oauth.limiter.take(find_address(request))
    form = await receive_form(request)
    base_url = find_own_url(services, request)
    check_resource(form.get("resource"), base_url)
    issue = _GRANT_TYPES.get(_read(form, "grant_type"))
    if issue is None:
        message = "grant_type must be authorization_code or refresh_token."
        raise UnsupportedGrantTypeError(message, param="grant_type")
    issued = await issue(services, request, form, base_url)
    if isinstance(issued, InvalidOAuthGrantError):
        services.oauth.access_tokens.forget()
        raise issued
    return respond(
        {
            "access_token": issued.access_token,
            "token_type": "Bearer",
            "expires_in": issued.expires_in,
            "refresh_token": issued.refresh_token,
            "scope": format_scopes(issued.scopes),
        }
    )


async def redeem_code(
    services: Services, request: Request, form: Mapping[str, str], base_url: str
) -> IssuedTokens | InvalidOAuthGrantError:
    redemption = CodeRedemption(
        code=_read(form, "code"),
        client_id=_read_client_id(request, form),
        redirect_uri=form.get("redirect_uri"),
        verifier=_read(form, "code_verifier"),
        base_url=base_url,
    )
    by = build_anonymous_actor(request)
    return await services.storage.write(
        lambda connection: services.oauth.tokens.redeem(connection, redemption, by=by)
    )


async def refresh(
    services: Services, request: Request, form: Mapping[str, str], base_url: str
) -> IssuedTokens | InvalidOAuthGrantError:
    token, client_id = _read(form, "refresh_token"), _read_client_id(request, form)
    by = build_anonymous_actor(request)
    return await services.storage.write(
        lambda connection: services.oauth.tokens.refresh(
            connection,
            token,
            client_id=client_id,
            scope=form.get("scope"),
            base_url=base_url,
            by=by,
        )
    )


async def revoke(services: Services, request: Request) -> Response:
    """Revoke a token. The answer is the same for an unknown one (RFC 7009 2.2)."""
    services.oauth.limiter.take(find_address(request))
    form = await receive_form(request)
    token = _read(form, "token")
    client_id = form.get("client_id")
    await services.storage.write(
        lambda connection: services.oauth.tokens.revoke(connection, token, client_id=client_id)
    )
    services.oauth.access_tokens.forget()
    return Response(status_code=200)


def _read(form: Mapping[str, str], name: str) -> str:
    value = form.get(name)
    if value is None:
        raise OAuthRequestError(f"{name} is missing.", param=name)
    return value


def _read_client_id(request: Request, form: Mapping[str, str]) -> str:
    """Return the client id of the form, or of HTTP Basic: some clients send it so with an empty
    secret, though they registered with none."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if "client_id" in form or scheme.lower() != "basic":
        return _read(form, "client_id")
    try:
        name, _, _ = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError as error:
        raise OAuthRequestError("The Authorization header cannot be read.") from error
    return urllib.parse.unquote_plus(name)


_GRANT_TYPES = {"authorization_code": redeem_code, "refresh_token": refresh}
