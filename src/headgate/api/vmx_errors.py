"""Render errors of the operations that have the names of VM-X."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from headgate.api.errors import FIELD_STATUS, JSON, InvalidFieldError, build_headers
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.log import mask_text
from headgate.llm.vmx_names import to_vmx_name

CONFIG_INVALID = "AI_CONNECTION_CONFIG_INVALID"
PROVIDER_NOT_FOUND = "AI_PROVIDER_NOT_FOUND"
RESOURCE_EXISTS = "AI_RESOURCE_ALREADY_EXISTS"
ENVIRONMENT_NOT_FOUND = "ENVIRONMENT_NOT_FOUND"
NO_ENVIRONMENT = (
    "Not found. The address has the id or name of your organization as its workspace, and that of "
    "one of its projects as its environment."
)
MISSING_CODES = {
    "ai-connection": "AI_CONNECTION_NOT_FOUND",
    "ai-provider": PROVIDER_NOT_FOUND,
    "ai-resource": "AI_RESOURCE_NOT_FOUND",
    "api-key": "API_KEY_NOT_FOUND",
}
CONFIG_FIELDS = ("api_key", "base_url")
ID_DEPTH = 6
"""How many parts a path has that names an object: `/api/noun/workspace/environment/id`."""


class VmxError(msgspec.Struct, rename="camel"):
    """An error in the names of VM-X: a stable code, a sentence for people, and where the fault
    is."""

    error_code: str
    error_message: str
    details: dict[str, Any]


def find_missing_code(path: str) -> str:
    """Return the code for what an operation of this path does not find."""
    parts = path.split("/")
    return MISSING_CODES[parts[2]] if len(parts) == ID_DEPTH else ENVIRONMENT_NOT_FOUND


class VmxErrorFormat:
    """`{"errorCode", "errorMessage", "details"}`, and status 400 for errors of fields
    (`error_format.ErrorFormat`). Whatever is missing in an operation, the answer is the same."""

    def __init__(self, missing_code: str) -> None:
        self._missing_code = missing_code

    def render(self, error: HeadgateError) -> Response:
        if error.kind is Kind.MISSING:
            message = (
                NO_ENVIRONMENT if self._missing_code == ENVIRONMENT_NOT_FOUND else "Not found."
            )
            return _respond(404, VmxError(self._missing_code, message, {}), {})
        place = find_place(error)
        details: dict[str, Any] = {}
        if place:
            details = {"path": [mask_text(str(each)) for each in place]}
        status = error.kind.value
        described = VmxError(find_code(error, place), mask_text(describe(error)), details)
        status = Kind.INVALID.value if status == FIELD_STATUS else status
        return _respond(status, described, build_headers(error))

    def render_fault(self, request_id: str) -> Response:
        message = f"An unexpected error occurred. The server's log has it under {request_id}."
        return _respond(500, VmxError("INTERNAL_SERVER_ERROR", message, {}), {})


def find_place(error: HeadgateError) -> Sequence[str | int]:
    """Return the path of the field at fault, in the names of VM-X; empty for none."""
    if isinstance(error, InvalidFieldError):
        return error.loc
    if error.code == CONFIG_INVALID:
        return ("body", "config")
    if error.param is None or error.kind is not Kind.INVALID:
        return ()
    return ("body", *(to_vmx_name(each) for each in error.param.split(".")))


def describe(error: HeadgateError) -> str:
    """Return the message of an error, with the fields that it names in the names of VM-X."""
    message = error.message
    for name in (error.param, *CONFIG_FIELDS) if error.code == CONFIG_INVALID else (error.param,):
        if name:
            renamed = ".".join(to_vmx_name(each) for each in name.split("."))
            message = message.replace(name, renamed)
    return message


def find_code(error: HeadgateError, place: Sequence[str | int]) -> str:
    if tuple(place[:2]) == ("body", "config"):
        return CONFIG_INVALID
    if tuple(place[:2]) == ("body", "provider"):
        return PROVIDER_NOT_FOUND
    if error.code == "resource_conflict" and error.param == "name":
        return RESOURCE_EXISTS
    return (error.type if isinstance(error, InvalidFieldError) else error.code).upper()


def _respond(status: int, body: VmxError, headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(body), status, headers, media_type=JSON)
