"""What a handler gets, what it answers with, and the errors it raises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from headgate_simulator.seed import Seed

Frame = tuple[str | None, dict[str, Any] | str]
"""One server-sent event: its name (or None) and its payload (a string is sent as it is)."""


class Upload(msgspec.Struct, frozen=True):
    """Hold one file of a multipart body."""

    name: str
    filename: str
    media: str
    data: bytes


class ApiRequest(msgspec.Struct):
    """Hold one decoded request; `body` is the JSON object or the text fields of a form."""

    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any]
    seed: Seed
    ids: list[str] = []
    uploads: list[Upload] = []
    work_seconds: float = 0.0
    """How long a background response takes."""

    @property
    def model(self) -> str:
        """Return the requested model, or an empty string."""
        return str(self.body.get("model") or "")

    def upload(self, name: str) -> Upload:
        """Return the file in the form's field `name`. Raise `ApiError` when it is missing."""
        for upload in self.uploads:
            if upload.name in (name, f"{name}[]"):
                return upload
        raise missing_parameter(name)


class ApiResponse(msgspec.Struct):
    """Hold a whole answer: a JSON value, or bytes of another media type."""

    payload: Any
    media: str = "application/json"
    tokens: int = 0


class EventStream(msgspec.Struct):
    """Hold an answer in server-sent events."""

    frames: Iterator[Frame]
    tokens: int = 0


class ApiError(Exception):
    """Report an error in OpenAI's shape, with its HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = {}
        self.error = {"message": message, "type": kind, "param": param, "code": code}


def missing_parameter(param: str) -> ApiError:
    message = f"Missing required parameter: '{param}'."
    return ApiError(400, message, param=param, code="missing_required_parameter")


def unknown_parameter(param: str) -> ApiError:
    return ApiError(400, f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")


def invalid_value(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")


def not_found(kind: str, identity: str) -> ApiError:
    return ApiError(404, f"No {kind} found with id '{identity}'.", code=None)
