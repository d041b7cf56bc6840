"""The OpenAPI 3.1 document, made of the declared operations and their types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

import headgate
from headgate.api.access import Audience
from headgate.api.errors import Detail, FieldDetails
from headgate.api.operation import Operation, Operations
from headgate.api.schemas.fields import Empty

REF = "#/components/schemas/{name}"
FIELD = {"$ref": REF.format(name="FieldDetails")}
DETAIL = {"$ref": REF.format(name="Detail")}
EITHER = {"anyOf": [DETAIL, FIELD]}
ORGANIZATION_PARAMETER = {
    "name": "X-Organization-ID",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "The organization whose objects these are.",
}
REPETITION_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "Of your own; the same request with it gets the same answer for 24 hours.",
}
MATCH_PARAMETER = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": '^([0-9]{1,18}|"[0-9]{1,18}")$'},
    "description": "The ETag that was read; another version is refused with 412.",
}
ERRORS = {
    400: ("The request cannot be understood, or lacks X-Organization-ID.", DETAIL),
    401: ("Nobody is signed in, or the key is not good.", DETAIL),
    402: ("There is no money for it.", DETAIL),
    403: ("Who asks may not do this.", DETAIL),
    404: ("There is none, or it is somebody else's.", DETAIL),
    409: ("It contradicts what is there.", DETAIL),
    412: ("It was changed since the version that If-Match names.", DETAIL),
    413: ("The body is too large.", DETAIL),
    414: ("The address is too long for the server to read.", DETAIL),
    415: ("The body is not JSON.", DETAIL),
    422: ("A field is not what it has to be.", EITHER),
    429: ("Too often; Retry-After says when again.", DETAIL),
    502: ("The other side did not answer as it should.", DETAIL),
    503: ("Nothing can be stored now.", DETAIL),
}
OF_EVERY_CALL = (400, 422, 429, 503)
OF_A_CALLER = (401, 403)
OF_A_BODY = (409, 413, 415)
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


def build_document(modules: Iterable[Operations]) -> dict[str, Any]:
    """The whole document."""
    groups = list(modules)
    operations = [operation for group in groups for operation in group.all]
    types = list(_list_types(operations))
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    for component in components.values():
        if "description" in component:
            component["description"] = inspect.cleandoc(component["description"])
    known = dict(zip(map(str, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _describe(
            operation, known, components
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headgate",
            "version": headgate.__version__,
            "description": "The platform API: organizations, keys, credentials and the catalog.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": group.tag, "description": group.description} for group in groups],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A management key (hg_admin_...), or a person's token.",
                },
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": "A management key. The header api-key is read as well.",
                },
                "session": {"type": "apiKey", "in": "cookie", "name": "headgate_session"},
            },
        },
    }


def _list_types(operations: Sequence[Operation]) -> Iterable[Any]:
    yield from (Detail, FieldDetails)
    for operation in operations:
        yield operation.query
        yield operation.body
        if operation.answer is not None:
            yield operation.answer


def _describe(
    operation: Operation, known: Mapping[str, Any], components: Mapping[str, Any]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": _describe_parameters(operation, known, components),
        "responses": _describe_responses(operation, known),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.access.audience is not Audience.ANYONE:
        described["security"] = [{"bearer": []}, {"apiKey": []}, {"session": []}]
        if operation.access.permission:
            described["x-permission"] = operation.access.permission
    else:
        described["security"] = []
    if operation.body is not Empty:
        media: dict[str, Any] = {"schema": known[str(operation.body)]}
        if operation.example is not None:
            media["example"] = operation.example
        described["requestBody"] = {"required": True, "content": {"application/json": media}}
    return described


def _describe_parameters(
    operation: Operation, known: Mapping[str, Any], components: Mapping[str, Any]
) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(operation.path)
    ]
    if operation.query is not Empty:
        name = known[str(operation.query)]["$ref"].rpartition("/")[2]
        schema = components[name]
        required = schema.get("required", ())
        for field, value in schema["properties"].items():
            parameters.append(
                {"name": field, "in": "query", "required": field in required, "schema": value}
            )
    if operation.takes_organization:
        parameters.append(ORGANIZATION_PARAMETER)
    if operation.method == "POST":
        parameters.append(REPETITION_PARAMETER)
    if operation.is_versioned:
        parameters.append(MATCH_PARAMETER)
    return parameters


def _describe_responses(operation: Operation, known: Mapping[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": operation.summary}
    if operation.answer is not None:
        media: dict[str, Any] = {"schema": known[str(operation.answer)]}
        if operation.example is not None and operation.body is Empty:
            media["example"] = operation.example
        answer["content"] = {"application/json": media}
    responses = {str(operation.status): answer}
    for status in list_errors(operation):
        text, schema = ERRORS[status]
        responses[str(status)] = {
            "description": text,
            "content": {"application/json": {"schema": schema}},
        }
    return responses


def list_errors(operation: Operation) -> list[int]:
    """The statuses of every error that this operation can be answered with."""
    statuses = {*OF_EVERY_CALL, *operation.errors}
    if operation.access.audience is not Audience.ANYONE:
        statuses |= {*OF_A_CALLER}
    if "{" in operation.path:
        statuses |= {404, 414}
    if operation.query is not Empty:
        statuses.add(414)
    if operation.changes:
        statuses |= {*OF_A_BODY}
    if operation.is_versioned:
        statuses.add(412)
    return sorted(statuses)
