"""Describe every action in the OpenAPI document, at its own addresses and with its own types."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from headgate.connectors.model.action import Action, WholeAnswer
from headgate.connectors.model.schema import Schema, build_input_schema, build_output_schema
from headgate.connectors.service.registry import ConnectorRegistry

PARAMETERS = ("{connector}", "{action_name}")
"""What stands in the path of an operation that runs whichever action it names."""
RUNS = ("run_connector_action", "execute_integration", "read_integration")
"""The operations that run actions."""

Paths = dict[str, dict[str, Any]]


def describe_actions(paths: Paths) -> None:
    """Add the addresses of each action to a document that has the operations that run them."""
    templates = [
        (path, method, operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if operation["operationId"] in RUNS
    ]
    if not templates:
        return
    for connector in ConnectorRegistry.load().list():
        for action in connector.actions:
            for path, method, operation in templates:
                if method == "get" and not action.is_read_only:
                    continue
                own = path.replace(PARAMETERS[0], action.connector)
                own = own.replace(PARAMETERS[1], action.name)
                described = _describe(action, operation, is_read=method == "get")
                paths.setdefault(own, {})[method] = described


def _describe(action: Action, operation: Mapping[str, Any], *, is_read: bool) -> dict[str, Any]:
    """Return the operation that runs one action, made of the one that runs any."""
    described = copy.deepcopy(dict(operation))
    verb = described["operationId"].partition("_")[0]
    described["operationId"] = f"{verb}_{action.tool_name}"
    described["summary"] = f"{action.title} ({action.connector})"
    described["description"] = re.sub(r"(?<!\n)\n(?!\n)", " ", action.description)
    described["x-tool-name"] = action.tool_name
    schema = _write_sentences(build_input_schema(action.input))
    parameters = [each for each in described["parameters"] if each["in"] != "path"]
    described["parameters"] = parameters
    if is_read:
        parameters += _list_parameters(schema)
    else:
        is_required = bool(schema.get("required"))
        content = {"application/json": {"schema": schema}}
        described["requestBody"] = {"required": is_required, "content": content}
    answer = described["responses"]["200"]
    answer["content"] = {"application/json": {"schema": _describe_answer(action, operation)}}
    return described


def _write_sentences(schema: Schema) -> Schema:
    """Make sentences of descriptions that go on from their titles; tools have them short."""
    written: Schema = {}
    for name, value in schema.items():
        if name in ("properties", "patternProperties"):
            named = cast("dict[str, Schema]", value)
            written[name] = {key: _write_sentences(each) for key, each in named.items()}
        elif isinstance(value, dict) and name in ("items", "additionalProperties"):
            written[name] = _write_sentences(cast("Schema", value))
        elif name in ("anyOf", "prefixItems"):
            choices = cast("list[Schema]", value)
            written[name] = [_write_sentences(each) for each in choices]
        else:
            written[name] = value
    text = written.get("description", "")
    if text and not text.endswith("."):
        title = f"{schema['title']} " if "title" in schema and text[0].islower() else ""
        written["description"] = f"{title}{text}."
    return written


def _list_parameters(schema: Schema) -> Iterator[dict[str, Any]]:
    required = schema.get("required", ())
    for name, own in schema["properties"].items():
        yield {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": {key: value for key, value in own.items() if key != "description"},
            "description": own.get("description", ""),
        }


def _describe_answer(action: Action, operation: Mapping[str, Any]) -> Schema:
    data = _write_sentences(build_output_schema(action.output) or {"type": "object"})
    output = action.output
    is_whole = isinstance(output, type) and issubclass(output, WholeAnswer)
    if is_whole and operation["operationId"] == RUNS[0]:
        return data
    schema: Schema = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    if operation["operationId"] != RUNS[0]:
        schema["properties"] = {"success": {"const": True}, **schema["properties"]}
        schema["required"] = ["success", "data"]
    return schema
