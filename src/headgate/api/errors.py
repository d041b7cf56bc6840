"""The errors of the platform API, in its own shape (systems.md 1.2).

`{"detail": "<text>", "code": "<code>"}` ordinarily; 422 with `{"detail": [{"loc", "msg", "type"}]}`
where a field is at fault. What is missing and what is somebody else's give the same bytes (M7).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Mapping
from typing import Any

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.log import mask_text
from headgate.kit.rate_limiter import RateLimitedError

NOT_FOUND = {"detail": "Not found.", "code": "not_found"}
FIELD_STATUS = 422
JSON = "application/json"


class NotAuthenticatedError(HeadgateError):
    """Nobody is known to ask."""

    kind = Kind.UNAUTHENTICATED
    code = "not_authenticated"


class MissingOrganizationHeaderError(HeadgateError):
    """The organization is named by a header, on every call (decision 14)."""

    kind = Kind.INVALID
    code = "organization_header_missing"


class ForbiddenError(HeadgateError):
    """Who asks is known, and may not."""

    kind = Kind.FORBIDDEN
    code = "forbidden"


class InvalidCsrfTokenError(ForbiddenError):
    """A change by cookie without the session's token: another site may have made the browser
    send it."""

    code = "csrf_token_wrong"


class ForbiddenOriginError(ForbiddenError):
    """A page of another site made the browser send this."""

    code = "origin_refused"


class InvalidFieldError(HeadgateError):
    """A field of the query, a header or the body is not what it has to be; `loc` says which."""

    kind = Kind.UNPROCESSABLE
    code = "invalid"

    def __init__(self, message: str, loc: tuple[str | int, ...], code: str = "invalid") -> None:
        super().__init__(message, param=".".join(map(str, loc)))
        self.loc = loc
        self.type = code


class WrongPasswordError(InvalidFieldError):
    """Somebody who is signed in gave another password than their own."""

    code = "wrong_password"


class MalformedJsonError(HeadgateError):
    """A body that is no JSON at all."""

    kind = Kind.INVALID
    code = "malformed_json"


class BodyTooLargeError(HeadgateError):
    """A body of more bytes than the API takes."""

    kind = Kind.TOO_LARGE
    code = "body_too_large"


class UnsupportedMediaTypeError(HeadgateError):
    """A body of another type than JSON."""

    kind = Kind.MEDIA_TYPE
    code = "unsupported_content_type"


class OutdatedVersionError(HeadgateError):
    """The object was changed since the version that `If-Match` names."""

    kind = Kind.PRECONDITION
    code = "version_outdated"


class Detail(msgspec.Struct):
    """An ordinary error."""

    detail: str
    code: str


class FieldDetail(msgspec.Struct):
    """What is wrong with one field: the path to it, a sentence, and a code."""

    loc: list[str | int]
    msg: str
    type: str


class FieldDetails(msgspec.Struct):
    """An error of one or several fields."""

    detail: list[FieldDetail]


@contextlib.contextmanager
def rename_params(names: Mapping[str, str]) -> Generator[None]:
    """Errors name the fields of the body, where the feature calls them otherwise."""
    try:
        yield
    except HeadgateError as error:
        if error.param is not None:
            error.param = names.get(error.param, error.param)
        raise


def status_of(error: HeadgateError) -> int:
    """The status of an error: one that names a field of the body is always 422."""
    if error.kind is Kind.INVALID and error.param is not None:
        return FIELD_STATUS
    return error.kind.value


def describe(error: HeadgateError) -> dict[str, Any]:
    """The body of an error."""
    if error.kind is Kind.MISSING:
        return NOT_FOUND
    if isinstance(error, InvalidFieldError):
        return _describe_field(list(error.loc), error.message, error.type)
    if error.param is not None and status_of(error) == FIELD_STATUS:
        return _describe_field(["body", *error.param.split(".")], error.message, error.code)
    return {"detail": mask_text(error.message), "code": error.code}


def advise(error: HeadgateError) -> dict[str, str]:
    """The headers that belong to an error."""
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


def _describe_field(loc: list[str | int], message: str, code: str) -> dict[str, Any]:
    """A secret that was written in the place of a field's name must not be repeated."""
    named = [mask_text(step) if isinstance(step, str) else step for step in loc]
    return {"detail": [{"loc": named, "msg": mask_text(message), "type": code}]}
