"""The errors of the authorization server. Their codes are those of the OAuth specifications."""

from __future__ import annotations

from headgate.kit.errors import HeadgateError, Kind


class OAuthRequestError(HeadgateError):
    """A parameter of an OAuth request is missing, malformed, or there twice.

    Correct the parameter that the message names.
    """

    kind = Kind.INVALID
    code = "invalid_request"


class UnknownOAuthClientError(OAuthRequestError):
    """The application is not known: its `client_id` was not issued here, or the metadata document
    at its address cannot be used.

    Register the application again, or correct the document; the message says what is wrong with it.
    """

    code = "invalid_client"


class InvalidRedirectUriError(OAuthRequestError):
    """The address to which the browser would be sent back is not one that the application has
    registered, or no application may register it.

    Use a registered address exactly: https, this machine with any port, or the application's own
    scheme.
    """

    code = "invalid_redirect_uri"


class InvalidClientMetadataError(OAuthRequestError):
    """The description of an application cannot be registered.

    Send `redirect_uris`, and a `client_name` of printable characters.
    """

    code = "invalid_client_metadata"


class InvalidOAuthGrantError(OAuthRequestError):
    """The authorization code or the refresh token is unknown, expired or used up, was issued for
    another application, or the application or its person may not use the organization any more.

    Connect the application again, as an owner or admin.
    """

    code = "invalid_grant"


class UnsupportedGrantTypeError(OAuthRequestError):
    """The token endpoint does not have this `grant_type`.

    Use `authorization_code` or `refresh_token`.
    """

    code = "unsupported_grant_type"


class UnsupportedResponseTypeError(OAuthRequestError):
    """The authorization endpoint does not have this `response_type`.

    Use `code`.
    """

    code = "unsupported_response_type"


class InvalidOAuthScopeError(OAuthRequestError):
    """A refresh asks for more access than the person consented to.

    Leave `scope` out, or connect the application again with more access.
    """

    code = "invalid_scope"


class InvalidTargetError(OAuthRequestError):
    """The `resource` is not this server.

    Use the `resource` of the protected resource metadata.
    """

    code = "invalid_target"


class AccessDeniedError(OAuthRequestError):
    """The person did not connect the application.

    Connect it again, and agree.
    """

    code = "access_denied"


class RefusedAccessTokenError(HeadgateError):
    """The access token is unknown or expired, was issued for another server, or its application may
    not act for this person any more.

    Refresh the token, or connect the application again.
    """

    kind = Kind.UNAUTHENTICATED
    code = "invalid_token"


class ApplicationNotFoundError(HeadgateError):
    """There is no connected application of this id.

    List them with `headgate applications list` or `GET /api/connected-applications`.
    """

    kind = Kind.MISSING
    code = "not_found"


class TooManyOAuthRequestsError(HeadgateError):
    """This address has sent too many requests without a login to the authorization server.

    Wait for the seconds in `Retry-After`.
    """

    kind = Kind.LIMITED
    code = "oauth_too_often"
