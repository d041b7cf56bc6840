"""Render errors in the format of the address: the platform API's own, or OpenAI's below `/v1`."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from starlette.responses import Response

from headgate.api.denials import find_envelope
from headgate.api.errors import (
    FIELD_STATUS,
    JSON,
    InvalidFieldError,
    build_body,
    build_headers,
    find_status,
)
from headgate.connectors.model.errors import describe_error
from headgate.connectors.model.tool import ErrorObject
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.log import mask_text
from headgate.llm import error_object

V1_PREFIX = "/v1/"
FAULT = "An unexpected error occurred. The server's log has it under {request_id}."
NOT_FOUND = {
    "message": "Not found.",
    "type": error_object.INVALID_REQUEST,
    "param": None,
    "code": "not_found",
}


class ErrorFormat(Protocol):
    def render(self, error: HeadgateError) -> Response: ...

    def render_fault(self, request_id: str) -> Response:
        """Return the answer to an unexpected exception. The log has its details under the same
        id."""
        ...


class PlatformErrorFormat:
    """`{"detail", "code"}`, and a list of fields in `detail` with status 422."""

    def render(self, error: HeadgateError) -> Response:
        return _respond(find_status(error), build_body(error), build_headers(error))

    def render_fault(self, request_id: str) -> Response:
        detail = FAULT.format(request_id=request_id)
        return _respond(500, {"detail": detail, "code": "internal_error"}, {})


class ManagedErrorFormat(PlatformErrorFormat):
    """Use the platform API's format, and a `DenialEnvelope` for refused managed work."""

    def render(self, error: HeadgateError) -> Response:
        envelope = find_envelope(error)
        if envelope is None:
            return super().render(error)
        return _respond(envelope.status, msgspec.to_builtins(envelope), build_headers(error))


class EnvelopedErrorFormat:
    """`{"success": false, "error_object": {"type", "code", "message", "field", "recovery"}}`."""

    def render(self, error: HeadgateError) -> Response:
        return _respond(find_status(error), _envelop(describe_error(error)), build_headers(error))

    def render_fault(self, request_id: str) -> Response:
        fault = HeadgateError(FAULT.format(request_id=request_id))
        return _respond(500, _envelop(describe_error(fault)), {})


def _envelop(described: ErrorObject) -> dict[str, Any]:
    field = described.field
    named = None if field is None else mask_text(field.removeprefix("body.").removeprefix("query."))
    shown = msgspec.structs.replace(described, message=mask_text(described.message), field=named)
    return {"success": False, "error_object": shown}


class OpenAiErrorFormat:
    """`{"error": {"message", "type", "param", "code"}}`, and status 400 for errors of fields."""

    def render(self, error: HeadgateError) -> Response:
        headers = {**build_headers(error), **FROM_GATEWAY}
        if error.should_retry is not None:
            headers["x-should-retry"] = "true" if error.should_retry else "false"
        status = error.kind.value
        return _respond(
            Kind.INVALID.value if status == FIELD_STATUS else status,
            {"error": describe_for_openai(error)},
            headers,
        )

    def render_fault(self, request_id: str) -> Response:
        error = HeadgateError(FAULT.format(request_id=request_id))
        return _respond(500, {"error": error_object.describe(error)}, dict(FROM_GATEWAY))


FROM_GATEWAY = {"x-headgate-error-source": "gateway"}
PLATFORM, MANAGED, OPENAI = PlatformErrorFormat(), ManagedErrorFormat(), OpenAiErrorFormat()
ENVELOPED = EnvelopedErrorFormat()


def describe_for_openai(error: HeadgateError) -> dict[str, str | None]:
    """Return the member `error`. Missing objects and those of other organizations get the same."""
    if error.kind is Kind.MISSING:
        return NOT_FOUND
    described = error_object.describe(error)
    if isinstance(error, InvalidFieldError):
        described |= {"param": ".".join(map(str, error.loc[1:])) or None, "code": error.type}
    param = described["param"]
    return described | {
        "message": mask_text(error.message),
        "param": None if param is None else mask_text(param),
    }


def _respond(status: int, body: dict[str, Any], headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(body), status, headers, media_type=JSON)
