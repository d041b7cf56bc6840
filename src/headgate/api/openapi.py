"""Builds the OpenAPI 3.1 document from the declared operations and their types."""

from __future__ import annotations

import inspect
import re
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

import headgate
from headgate.api.access import Audience
from headgate.api.action_document import describe_actions
from headgate.api.denials import STATUSES, DenialEnvelope
from headgate.api.download import Download
from headgate.api.errors import Detail, FieldDetails, OpenAiErrorResponse
from headgate.api.event_stream import ServerSentEvents
from headgate.api.operation import Operation, Operations
from headgate.api.schemas.connectors import ErrorEnvelope
from headgate.api.schemas.fields import AnyQuery, Empty, FileBody, RawBody
from headgate.api.vmx_errors import VmxError
from headgate.api.vmx_structs import PREFIX
from headgate.llm.vmx_names import to_own_name

REF = "#/components/schemas/{name}"
FIELD = {"$ref": REF.format(name="FieldDetails")}
DETAIL = {"$ref": REF.format(name="Detail")}
OPENAI_ERROR = {"$ref": REF.format(name="OpenAiErrorResponse")}
DENIAL = {"$ref": REF.format(name="DenialEnvelope")}
ENVELOPED_ERROR = {"$ref": REF.format(name="ErrorEnvelope")}
DENIED = frozenset(STATUSES.values())
"""The statuses with which managed work is refused."""
EITHER = {"anyOf": [DETAIL, FIELD]}
ORGANIZATION_PARAMETER = {
    "name": "X-Organization-ID",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "The id of the organization that the request is about.",
}
V1_ORGANIZATION_PARAMETER = {
    **ORGANIZATION_PARAMETER,
    "required": False,
    "description": "The id of the organization that the request is about. An API key needs none: "
    "it belongs to one.",
}
IDEMPOTENCY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "A key of your choice. If the same request is sent again with it within "
    "24 hours, nothing is done twice and the first answer is returned.",
}
MATCH_PARAMETER = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": '^([0-9]{1,18}|"[0-9]{1,18}")$'},
    "description": "The ETag of the version that was read. If the object was changed since, "
    "nothing is changed and the answer is 412.",
}
ERRORS = {
    400: ("The body is not valid JSON, or the header X-Organization-ID is missing.", DETAIL),
    401: ("There is no valid session, token or API key.", DETAIL),
    402: ("The credits do not suffice.", DETAIL),
    403: ("The person or the API key has no permission for this.", DETAIL),
    404: ("The object does not exist, or belongs to another organization.", DETAIL),
    405: ("The address has no such method.", DETAIL),
    409: ("The request conflicts with the current state.", DETAIL),
    412: ("The object was changed since the version that If-Match names.", DETAIL),
    413: ("The body is too large.", DETAIL),
    414: ("The request URL is too long.", DETAIL),
    415: ("The content type of the body is not JSON.", DETAIL),
    422: ("A field of the body, the query or a header is invalid.", EITHER),
    429: ("Too many requests. `Retry-After` tells when to try again.", DETAIL),
    501: ("The provider has this, and it is not supported here.", DETAIL),
    502: ("The external service did not answer as expected.", DETAIL),
    503: ("The database cannot be written at the moment. Try again later.", DETAIL),
    504: ("The external service did not answer in time.", DETAIL),
}
ENVELOPED_ERRORS = {status: (text, ENVELOPED_ERROR) for status, (text, _) in ERRORS.items()}
V1_ERRORS = {
    **{status: (text, OPENAI_ERROR) for status, (text, _) in ERRORS.items()},
    400: ("A field of the body, the query or a header is invalid.", OPENAI_ERROR),
}
VMX_ERRORS = {
    status: (text, {"$ref": REF.format(name="VmxError")}) for status, (text, _) in V1_ERRORS.items()
}
DESCRIPTIONS = Path(__file__).with_name("schemas") / "descriptions.toml"
OF_EVERY_CALL = (400, 422, 429, 503)
OF_A_CALLER = (401, 403)
OF_A_BODY = (409, 413, 415)
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


def build_document(modules: Iterable[Operations]) -> dict[str, Any]:
    """Return the document as JSON types. `modules` are the operations of each tag, in order."""
    groups = list(modules)
    operations = [operation for group in groups for operation in group.all]
    types = list(_list_types(operations))
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    texts = tomllib.loads(DESCRIPTIONS.read_text())
    for name, component in components.items():
        if "description" in component:
            text = texts["types"].get(name, component["description"])
            component["description"] = unwrap(text)
        _describe_fields(name, component.get("properties", {}), texts)
    references = dict(zip(map(str, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _describe(
            operation, references, components, texts["fields"]
        )
    describe_actions(paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headgate",
            "version": headgate.__version__,
            "description": "Manages organizations, people, API keys, provider credentials and "
            "prices of a "
            "Headgate server. Calls to models use the OpenAI API below `/v1`, which is not part of "
            "this document. Of the paths below `/v1`, it has the platform's own.",
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
                    "description": "A management key (`hg_admin_...`), or a token of the OpenID "
                    "Connect issuer.",
                },
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": "A management key. The header `api-key` works, too.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "headgate_session",
                    "description": "The cookie of a signed-in person. Changes also need the header "
                    "`X-CSRF-Token`.",
                },
            },
        },
    }


def _describe_fields(name: str, fields: Mapping[str, Any], texts: Mapping[str, Any]) -> None:
    # Made of a type in the names of Headgate, fields mean what they mean there.
    base = name.removeprefix(PREFIX)
    own = {**texts["fields"], **texts.get(base, {}), **texts.get(name, {})}
    nouns: Mapping[str, str] = texts["objects"]
    noun = nouns.get(name) or nouns.get(base, "object")
    for field, schema in fields.items():
        meaning: str = own[field if field in own else to_own_name(field)]
        meaning = meaning.replace("{object}", noun)
        formats = [each.pop("description", "") for each in (schema, *schema.get("anyOf", ()))]
        schema["description"] = " ".join(filter(None, [meaning, *formats]))


def _list_types(operations: Sequence[Operation]) -> Iterable[Any]:
    yield from (Detail, FieldDetails, OpenAiErrorResponse, DenialEnvelope, VmxError, ErrorEnvelope)
    for operation in operations:
        for kind in (operation.query, operation.body, operation.answer):
            if kind not in (None, AnyQuery, RawBody, FileBody, Download, ServerSentEvents):
                yield kind


def _describe(
    operation: Operation,
    references: Mapping[str, Any],
    components: Mapping[str, Any],
    texts: Mapping[str, str],
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": _describe_parameters(operation, references, components, texts),
        "responses": _describe_responses(operation, references),
    }
    if operation.description:
        described["description"] = unwrap(operation.description)
    access = operation.access
    if access.audience is not Audience.ANYONE:
        described["security"] = [{"bearer": []}, {"apiKey": []}, {"session": []}]
        if access.audience is Audience.TOOLS and not access.roles:
            described["security"].pop()
        if access.permission:
            described["x-permission"] = access.permission
        if access.own_key or access.audience is Audience.TOOLS:
            described["x-inference-keys"] = True
    else:
        described["security"] = []
    if operation.body is not Empty:
        is_raw = operation.body is RawBody
        media: dict[str, Any] = {"schema": {} if is_raw else references[str(operation.body)]}
        if operation.example is not None:
            media["example"] = operation.example
        described["requestBody"] = {"required": True, "content": {"application/json": media}}
    return described


def _describe_parameters(
    operation: Operation,
    references: Mapping[str, Any],
    components: Mapping[str, Any],
    texts: Mapping[str, str],
) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            "description": texts[name],
        }
        for name in _PARAMETER.findall(operation.path)
    ]
    if operation.query not in (Empty, AnyQuery):
        name = references[str(operation.query)]["$ref"].rpartition("/")[2]
        schema = components[name]
        required = schema.get("required", ())
        for field, value in schema["properties"].items():
            parameters.append(
                {
                    "name": field,
                    "in": "query",
                    "required": field in required,
                    "schema": {key: value[key] for key in value if key != "description"},
                    "description": value["description"],
                }
            )
    if operation.takes_organization:
        is_tool = operation.access.audience is Audience.TOOLS
        is_key_enough = operation.is_v1 or operation.is_vmx or is_tool
        parameters.append(V1_ORGANIZATION_PARAMETER if is_key_enough else ORGANIZATION_PARAMETER)
    if operation.method == "POST":
        parameters.append(IDEMPOTENCY_PARAMETER)
    if operation.is_versioned:
        parameters.append(MATCH_PARAMETER)
    return parameters


def _describe_responses(operation: Operation, references: Mapping[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _describe_answer(operation)}
    if operation.answer in (FileBody, Download, ServerSentEvents):
        binary = {"type": "string", "format": "binary"}
        media_types = operation.media_types or ("application/pdf",)
        answer["content"] = {each: {"schema": binary} for each in media_types}
    elif operation.answer is not None:
        media: dict[str, Any] = {"schema": references[str(operation.answer)]}
        if operation.example is not None and operation.body is Empty:
            media["example"] = operation.example
        answer["content"] = {"application/json": media}
    responses = {str(operation.status): answer}
    for status in list_errors(operation):
        text, schema = _choose_errors(operation)[status]
        if operation.is_managed and status in DENIED:
            schema = {"anyOf": [schema, DENIAL]}
        responses[str(status)] = {
            "description": text,
            "content": {"application/json": {"schema": schema}},
        }
    return responses


def _choose_errors(operation: Operation) -> Mapping[int, tuple[str, dict[str, Any]]]:
    if operation.is_enveloped:
        return ENVELOPED_ERRORS
    return V1_ERRORS if operation.is_v1 else VMX_ERRORS if operation.is_vmx else ERRORS


def _describe_answer(operation: Operation) -> str:
    if operation.answer is None:
        return "Success, without a body."
    if typing.get_origin(operation.answer) is list:
        return "A list."
    first, _, _ = unwrap(operation.answer.__doc__).partition(". ")
    return f"{first.removesuffix('.')}."


def unwrap(text: str) -> str:
    """Remove the indentation and the line breaks of a docstring; keep its paragraphs."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text))


def list_errors(operation: Operation) -> list[int]:
    """Return the status of every error that the operation can be answered with, ascending."""
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
    if operation.is_managed:
        statuses |= DENIED
    return sorted(statuses - {422} if operation.is_v1 or operation.is_vmx else statuses)
