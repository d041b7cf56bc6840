"""What a surface is asked, what it answers with, and how it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from headgate_simulator.seed import Seed

Frame = tuple[str | None, dict[str, Any] | str]
"""One server-sent event: its name (or None) and its payload (a string is sent as it is)."""


class Upload(msgspec.Struct, frozen=True):
    """One file of a multipart body."""

    name: str
    filename: str
    media: str
    data: bytes


class ApiRequest(msgspec.Struct):
    """One request, decoded. `body` holds the JSON object or the text fields of a form."""

    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any]
    seed: Seed
    ids: list[str] = []
    uploads: list[Upload] = []

    @property
    def model(self) -> str:
        """The model that was asked for (empty when none was)."""
        return str(self.body.get("model") or "")

    def upload(self, name: str) -> Upload:
        """The file in the form's field `name`; refuses when it is missing."""
        for upload in self.uploads:
            if upload.name in (name, f"{name}[]"):
                return upload
        raise missing_parameter(name)


class ApiResponse(msgspec.Struct):
    """A whole answer: a JSON value, or bytes of another media type."""

    payload: Any
    media: str = "application/json"
    tokens: int = 0


class EventStream(msgspec.Struct):
    """An answer in server-sent events."""

    frames: Iterator[Frame]
    tokens: int = 0


class ApiError(Exception):
    """An error in OpenAI's shape, with its HTTP status."""

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
    """A field that must be there is not."""
    message = f"Missing required parameter: '{param}'."
    return ApiError(400, message, param=param, code="missing_required_parameter")


def unknown_parameter(param: str) -> ApiError:
    """A field that OpenAI does not know."""
    return ApiError(400, f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")


def invalid_value(param: str, message: str) -> ApiError:
    """A field whose value cannot be used."""
    return ApiError(400, message, param=param, code="invalid_value")


def not_found(kind: str, identity: str) -> ApiError:
    """A stored object that is not (or no longer) there."""
    return ApiError(404, f"No {kind} found with id '{identity}'.", code=None)
