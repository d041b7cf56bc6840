"""The errors of the platform API, and their bodies and headers.

Most errors are `{"detail": "<text>", "code": "<code>"}`; an action adds `recovery`,
and the provider's `status` and `data`. Errors of fields have status 422 and the body
`{"detail": [{"loc", "msg", "type"}]}`. Missing objects and objects of other organizations get the
same bytes, so that a response does not reveal which ids exist.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Mapping
from typing import Any

import msgspec

from headgate.connectors.model.errors import ProviderRefusedError, ToolError
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.log import mask_text, mask_value
from headgate.kit.rate_limiter import RateLimitedError

NOT_FOUND = {"detail": "Not found.", "code": "not_found"}
FIELD_STATUS = 422
JSON = "application/json"


class NotAuthenticatedError(HeadgateError):
    """The request carries no session and no management key.

    Sign in, or send `Authorization: Bearer hg_admin_...`.
    """

    kind = Kind.UNAUTHENTICATED
    code = "not_authenticated"


class MissingOrganizationHeaderError(HeadgateError):
    """The request does not name the organization that it is for.

    Send `X-Organization-ID: org_...` with every request to `/api`.
    """

    kind = Kind.INVALID
    code = "organization_header_missing"


class ForbiddenError(HeadgateError):
    """The caller is authenticated, but has no permission for this operation.

    Use a key or a person with the permission that the message names.
    """

    kind = Kind.FORBIDDEN
    code = "forbidden"


class InvalidCsrfTokenError(ForbiddenError):
    """A change was sent with a session cookie and without the CSRF token of that session.

    Send the session's `csrf_token` in the header `X-CSRF-Token`.
    """

    code = "csrf_token_wrong"


class ForbiddenOriginError(ForbiddenError):
    """A page of another origin sent this request.

    If the page belongs to this installation, set `HEADGATE_PUBLIC_URL` to its address.
    """

    code = "origin_refused"


class InvalidFieldError(HeadgateError):
    """A field of the query, of a header or of the body has an invalid value; `loc` names it.

    Correct the field that `loc` names.
    """

    kind = Kind.UNPROCESSABLE
    code = "invalid"

    def __init__(self, message: str, loc: tuple[str | int, ...], code: str = "invalid") -> None:
        super().__init__(message, param=".".join(map(str, loc)))
        self.loc = loc
        self.type = code


class WrongPasswordError(InvalidFieldError):
    """The current password that was sent is wrong.

    Send the password with which you signed in.
    """

    code = "wrong_password"


class MalformedJsonError(HeadgateError):
    """The body is not JSON.

    Send one JSON object in UTF-8.
    """

    kind = Kind.INVALID
    code = "malformed_json"


class BodyTooLargeError(HeadgateError):
    """The body is larger than the platform API accepts.

    Send a smaller body; the message states the limit.
    """

    kind = Kind.TOO_LARGE
    code = "body_too_large"


class UnsupportedMediaTypeError(HeadgateError):
    """The media type of the body is not JSON.

    Send `Content-Type: application/json`.
    """

    kind = Kind.MEDIA_TYPE
    code = "unsupported_content_type"


class OutdatedVersionError(HeadgateError):
    """The object was changed after the version that `If-Match` names.

    Read the object again, and repeat the change with its new `ETag`.
    """

    kind = Kind.PRECONDITION
    code = "version_outdated"


class Detail(msgspec.Struct):
    """An error: a sentence for people in `detail`, and a stable `code` for programs."""

    detail: str
    code: str


class FieldDetail(msgspec.Struct):
    """What is wrong with one field: its path, a sentence, and a stable code."""

    loc: list[str | int]
    msg: str
    type: str


class FieldDetails(msgspec.Struct):
    """The errors of one or more fields."""

    detail: list[FieldDetail]


class OpenAiError(msgspec.Struct):
    """What is wrong, in OpenAI's shape."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAiErrorResponse(msgspec.Struct):
    """An error below `/v1`, in OpenAI's shape."""

    error: OpenAiError


@contextlib.contextmanager
def rename_params(names: Mapping[str, str]) -> Generator[None]:
    """Rename the fields that errors name, from the feature's names to those of the body."""
    try:
        yield
    except HeadgateError as error:
        if error.param is not None:
            error.param = names.get(error.param, error.param)
        raise


def find_status(error: HeadgateError) -> int:
    """Return the HTTP status of an error. Errors that name a field are 422."""
    if error.kind is Kind.INVALID and error.param is not None:
        return FIELD_STATUS
    return error.kind.value


def build_body(error: HeadgateError) -> dict[str, Any]:
    if error.kind is Kind.MISSING and not isinstance(error, ToolError):
        return NOT_FOUND
    if isinstance(error, InvalidFieldError):
        return _build_field_body(list(error.loc), error.message, error.type)
    if error.param is not None and find_status(error) == FIELD_STATUS:
        return _build_field_body(["body", *error.param.split(".")], error.message, error.code)
    body = {"detail": mask_text(error.message), "code": error.code}
    return {**body, **_describe_tool_error(error)} if isinstance(error, ToolError) else body


def _describe_tool_error(error: ToolError) -> dict[str, Any]:
    """Return what else is known of the failure of an action: what to do next, and the provider's
    answer."""
    shown: dict[str, Any] = {} if error.recovery is None else {"recovery": error.recovery}
    if isinstance(error, ProviderRefusedError):
        shown["status"] = error.status
        shown["data"] = mask_value(error.data)
        if error.headers:
            shown["headers"] = mask_value(error.headers)
    return shown


def build_headers(error: HeadgateError) -> dict[str, str]:
    """Return the headers that belong to an error: authentication, retry and rate limits."""
    headers: dict[str, str] = {}
    if error.kind is Kind.UNAUTHENTICATED:
        headers["www-authenticate"] = 'Bearer realm="headgate"'
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_seconds)))
    if isinstance(error, RateLimitedError):
        for rate in error.rate_limits:
            headers["x-ratelimit-limit"] = str(rate.limit)
            headers["x-ratelimit-remaining"] = str(rate.remaining)
            headers["x-ratelimit-reset"] = str(math.ceil(rate.reset_seconds))
    return headers


def _build_field_body(loc: list[str | int], message: str, code: str) -> dict[str, Any]:
    """Mask secrets in the path, too: a client may have sent one in the place of a field's name."""
    path = [mask_text(step) if isinstance(step, str) else step for step in loc]
    return {"detail": [{"loc": path, "msg": mask_text(message), "type": code}]}
