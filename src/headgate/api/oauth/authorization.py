"""The endpoint for people: they sign in, choose a project, and connect the application or not.

A request that is wrong is shown to the person, with a link back for the application to learn of it.
Anybody may register an address, so the browser is sent there only when the person has decided
(RFC 9700 4.11).
"""

from __future__ import annotations

import hmac
import urllib.parse

import msgspec
import sqlalchemy as sa
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from headgate.accounts.model import Login
from headgate.accounts.service import derive_csrf_token
from headgate.api.cookies import RETURN_PREFIX
from headgate.api.errors import InvalidCsrfTokenError
from headgate.api.gate import check_origin
from headgate.api.oauth import pages
from headgate.api.oauth.requests import (
    NO_STORE,
    Endpoint,
    Serve,
    find_address,
    find_own_url,
    parse_fields,
    receive_form,
    record_denial,
)
from headgate.api.operation import RequestContext, ResponseHead
from headgate.api.principal import ANONYMOUS
from headgate.api.quotas import check_quota
from headgate.api.schemas.fields import Empty
from headgate.api.services import Services
from headgate.api.sign_in import complete_sign_in, start_session, verify_password
from headgate.audit.model import Actor, ActorKind
from headgate.kit.errors import HeadgateError, Kind
from headgate.oauth.model.client import OAuthClient
from headgate.oauth.model.errors import AccessDeniedError, OAuthRequestError
from headgate.oauth.model.redirects import add_query, find_host
from headgate.oauth.model.request import PARAMETERS, AuthorizationRequest, check_parameters
from headgate.oauth.model.scope import close_scopes

QUERY_CHARACTERS_MAX = 14_000
FLOW_SECONDS = 600
NOT_CONNECTED = "The application cannot be connected"
CANCELLED = "The person did not connect the application."

log = structlog.get_logger(__name__)


def serve_page(services: Services, endpoint: Endpoint) -> Serve:
    """Serve an endpoint for people, with errors as pages."""

    async def serve(request: Request) -> Response:
        try:
            return await endpoint(services, request)
        except HeadgateError as error:
            record_denial(services, request, error)
            return pages.render_problem(NOT_CONNECTED, error.message, status=error.kind.value)
        except ClientDisconnect:
            return Response(status_code=408)
        # The person must get a page, but no details: the log has those.
        except Exception:
            log.exception("oauth.fault", path=request.url.path)
            message = "An unexpected error occurred. The log of the server has the details."
            return pages.render_problem(NOT_CONNECTED, message, status=500)

    return serve


async def authorize(services: Services, request: Request) -> Response:
    """Show the sign-in or the consent, or decide by the form of the consent."""
    if request.method == "POST":
        return await decide(services, request)
    given = parse_fields(request.url.query)
    query = encode_request(given)
    login = await services.authentication.authenticator.find_session(request)
    if login is None or given.get("prompt") == "login":
        return show_sign_in(services, query)
    # A document is fetched here only: after a person has signed in.
    client = await services.oauth.clients.find(given.get("client_id", ""))
    redirect_uri = client.find_redirect_uri(given.get("redirect_uri"))
    try:
        asked = check_parameters(given, redirect_uri, find_own_url(services, request))
    except OAuthRequestError as error:
        return show_problem(services, request, redirect_uri, given, error)
    person = login.person
    choices = await services.storage.read(
        lambda connection: services.oauth.applications.list_choices(connection, person.id)
    )
    return pages.render_consent(
        client,
        redirect_uri,
        asked.scopes,
        choices,
        person=person.email,
        query=query,
        csrf_token=derive_csrf_token(login.token),
    )


async def decide(services: Services, request: Request) -> Response:
    """Connect the application, or tell it that the person did not."""
    check_origin(request, services.authentication.public_url)
    form = await receive_form(request)
    given = parse_fields(form.get("query", ""))
    login = await services.authentication.authenticator.find_session(request)
    if login is None:
        return show_sign_in(services, encode_request(given))
    check_form(login, form.get("csrf_token", ""))
    client = await services.oauth.clients.find(given.get("client_id", ""))
    redirect_uri = client.find_redirect_uri(given.get("redirect_uri"))
    asked = check_parameters(given, redirect_uri, find_own_url(services, request))
    try:
        if form.get("decision") != "allow":
            raise AccessDeniedError(CANCELLED)
        asked = limit_access(asked, form.get("access", ""))
        code = await connect(
            services, request, login, client, asked, project_id=form.get("project_id", "")
        )
    except AccessDeniedError as error:
        answer = build_answer(services, request, given, describe_error(error))
    else:
        answer = build_answer(services, request, given, {"code": code})
    location = add_query(redirect_uri, answer)
    return Response(status_code=303, headers={**NO_STORE, "location": location})


async def connect(
    services: Services,
    request: Request,
    login: Login,
    client: OAuthClient,
    asked: AuthorizationRequest,
    *,
    project_id: str,
) -> str:
    person = login.person
    user_agent = request.headers.get("user-agent", "")[:256]
    by = Actor(ActorKind.PERSON, person.id, person.email, find_address(request), user_agent)

    def write(connection: sa.Connection) -> str:
        return services.oauth.applications.connect(
            connection,
            person,
            client,
            asked,
            project_id=project_id,
            by=by,
            check_quota=lambda connection, organization_id: check_quota(
                services, connection, organization_id, "keys"
            ),
        )

    return await services.storage.write(write)


async def sign_in(services: Services, request: Request) -> Response:
    """Verify e-mail and password, open a session, and go on to the consent."""
    check_origin(request, services.authentication.public_url)
    form = await receive_form(request)
    query = encode_request(parse_fields(form.get("query", "")))
    context = RequestContext[Empty, Empty](
        request,
        services,
        principal=ANONYMOUS,
        organization_id=None,
        query=Empty(),
        body=Empty(),
        claim=None,
        response_head=ResponseHead(303),
    )
    try:
        verified = await verify_password(context, form.get("email", ""), form.get("password", ""))
        before = await services.authentication.authenticator.find_session(request)
        login = await services.storage.write(
            lambda connection: start_session(context, connection, verified, before=before)
        )
    except HeadgateError as error:
        if error.kind not in (Kind.UNAUTHENTICATED, Kind.LIMITED):
            raise
        record_denial(services, request, error)
        return show_sign_in(services, query, error=error.message, status=error.kind.value)
    complete_sign_in(context, login)
    response = RedirectResponse(f"{RETURN_PREFIX}{query}", 303, headers=NO_STORE)
    for cookie in context.response_head.cookies:
        response.headers.append("set-cookie", cookie)
    return response


async def start_sso(services: Services, request: Request) -> Response:
    """Send the browser to the OpenID Connect issuer; it comes back to the consent."""
    authentication = services.authentication
    query = encode_request(parse_fields(request.url.query))
    if authentication.oidc is None:
        return show_sign_in(services, query)
    flow = authentication.oidc.start_flow()
    location = await authentication.oidc.build_authorization_url(flow)
    response = RedirectResponse(location, 303, headers=NO_STORE)
    cookies = authentication.cookies
    for cookie in (
        cookies.write_flow(flow, seconds=FLOW_SECONDS),
        cookies.write_return(f"{RETURN_PREFIX}{query}", seconds=FLOW_SECONDS),
    ):
        response.headers.append("set-cookie", cookie)
    return response


def show_sign_in(services: Services, query: str, *, error: str = "", status: int = 200) -> Response:
    oidc = services.authentication.oidc
    return pages.render_sign_in(
        query,
        has_single_sign_on=oidc is not None,
        error=error,
        status=status,
    )


def encode_request(given: dict[str, str]) -> str:
    """Return the parameters of an authorization request as a query, without any others."""
    query = urllib.parse.urlencode({name: given[name] for name in PARAMETERS if name in given})
    if len(query) > QUERY_CHARACTERS_MAX:
        raise OAuthRequestError("The authorization request is too long.")
    return query


def check_form(login: Login, csrf_token: str) -> None:
    """Raise `InvalidCsrfTokenError` where another site's page may have sent the form."""
    expected = derive_csrf_token(login.token).encode()
    if not hmac.compare_digest(csrf_token.encode("utf-8", "replace"), expected):
        raise InvalidCsrfTokenError("This page is too old. Start the connection again.")


def limit_access(asked: AuthorizationRequest, access: str) -> AuthorizationRequest:
    """Return the request with the access that the person chose, which is never more than asked."""
    chosen = tuple(each for each in close_scopes([access]) if each in asked.scopes)
    if not chosen:
        raise AccessDeniedError(CANCELLED)
    return msgspec.structs.replace(asked, scopes=chosen)


def show_problem(
    services: Services,
    request: Request,
    redirect_uri: str,
    given: dict[str, str],
    error: OAuthRequestError,
) -> Response:
    """Show what is wrong with a request, with a link that tells the application."""
    answer = build_answer(services, request, given, describe_error(error))
    link = add_query(redirect_uri, answer)
    return pages.render_problem(
        NOT_CONNECTED, error.message, status=400, link=link, host=find_host(redirect_uri)
    )


def describe_error(error: OAuthRequestError) -> dict[str, str]:
    return {"error": error.code, "error_description": error.message}


def build_answer(
    services: Services, request: Request, given: dict[str, str], fields: dict[str, str]
) -> dict[str, str]:
    """Return what the application is told, with its state and who answers (RFC 9207)."""
    state = {"state": given["state"]} if "state" in given else {}
    return {**fields, **state, "iss": find_own_url(services, request)}
