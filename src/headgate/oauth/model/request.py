"""What an application asks of a person: the parameters of the authorization endpoint."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headgate.oauth.model.challenge import build_resource
from headgate.oauth.model.client import CLIENT_ID_CHARACTERS_MAX
from headgate.oauth.model.errors import (
    InvalidTargetError,
    OAuthRequestError,
    UnsupportedResponseTypeError,
)
from headgate.oauth.model.scope import parse_scopes
from headgate.oauth.model.tokens import is_challenge

PARAMETERS = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "resource",
)
STATE_CHARACTERS_MAX = 2_048
TEXT_CHARACTERS_MAX = 1_024


class AuthorizationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a request whose parameters are right. `scopes` is closed."""

    redirect_uri: str
    challenge: str
    scopes: tuple[str, ...]
    resource: str


def check_parameters(
    given: Mapping[str, str], redirect_uri: str, base_url: str
) -> AuthorizationRequest:
    """Return what is asked. Raise an `OAuthRequestError` that the application is told."""
    for name in PARAMETERS:
        limit = STATE_CHARACTERS_MAX if name == "state" else TEXT_CHARACTERS_MAX
        limit = CLIENT_ID_CHARACTERS_MAX if name == "client_id" else limit
        if len(given.get(name, "")) > limit:
            raise OAuthRequestError(f"{name} is too long.", param=name)
    if "response_type" not in given:
        raise OAuthRequestError("response_type is missing; it is `code`.", param="response_type")
    if given["response_type"] != "code":
        raise UnsupportedResponseTypeError("response_type must be `code`.", param="response_type")
    challenge = given.get("code_challenge", "")
    # Without a method it would be `plain`, which shows the verifier to everybody on the way.
    if given.get("code_challenge_method") != "S256" or not is_challenge(challenge):
        raise OAuthRequestError(
            "PKCE is needed: a code_challenge with code_challenge_method=S256.",
            param="code_challenge",
        )
    return AuthorizationRequest(
        redirect_uri=redirect_uri,
        challenge=challenge,
        scopes=parse_scopes(given.get("scope", "")),
        resource=check_resource(given.get("resource"), base_url),
    )


def check_resource(resource: str | None, base_url: str) -> str:
    """Return the resource of this server, which is the default. Its spelling with a slash at the
    end counts as the same, and so does the server without a path. Raise `InvalidTargetError`."""
    own = build_resource(base_url)
    if resource is None or resource.lower().rstrip("/") in (own, base_url):
        return own
    raise InvalidTargetError(
        f"The resource {resource[:200]!r} is not this server; it is {own}.", param="resource"
    )
