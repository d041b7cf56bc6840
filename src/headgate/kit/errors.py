"""Define the root of every error that a caller may see.

    HeadgateError
    ├── one small class beside each cause, in every package
    └── every class names a `kind`, which an API turns into its own status and shape

No API inspects messages: it reads `kind`, `code`, `param` and the retry advice.
"""

from __future__ import annotations

import enum
from typing import TypeVar

Raised = TypeVar("Raised", bound=BaseException)


class Kind(enum.Enum):
    """Classify errors in the words that every API can translate. The value is the HTTP status."""

    INVALID = 400
    UNAUTHENTICATED = 401
    UNPAID = 402
    FORBIDDEN = 403
    MISSING = 404
    METHOD = 405
    TIMEOUT = 408
    CONFLICT = 409
    PRECONDITION = 412
    TOO_LARGE = 413
    TARGET_TOO_LONG = 414
    MEDIA_TYPE = 415
    EXPECTATION = 417
    MISDIRECTED = 421
    UNPROCESSABLE = 422
    UPGRADE_REQUIRED = 426
    LIMITED = 429
    HEADERS_TOO_LARGE = 431
    FAULT = 500
    UNSUPPORTED = 501
    UPSTREAM = 502
    UNAVAILABLE = 503
    UPSTREAM_TIMEOUT = 504


class HeadgateError(Exception):
    """Carry a stable code and a kind; the message says what is wrong and what to do.

    `param` names the field at fault. `retry_after_seconds` and `should_retry` become the headers
    that the official SDKs obey (None leaves the SDK to its own rules). `attempts` is how
    often the request was sent on.
    """

    kind: Kind = Kind.FAULT
    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_seconds: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        self.should_retry = should_retry
        self.attempts = 0


def drop_trace(error: Raised) -> Raised:
    """Detach an error from the frames that it came through and from earlier errors.

    Call it where an error is stored. Its traceback holds every frame, a frame holds the bodies of
    its request, and the object that stores the error is mostly held by one of those frames: a cycle
    that only the garbage collector would find.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
