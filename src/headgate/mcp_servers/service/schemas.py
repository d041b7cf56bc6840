"""Checks arguments and results against pinned schemas, in bounded time and without any I/O.

`jsonschema_rs` is imported on first use: a start of Headgate must not pay for it.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import msgspec

from headgate.connectors.model.errors import InvalidInputError
from headgate.mcp_servers.model.definition import ToolDefinitionRecord, UnusableDefinitionError
from headgate.mcp_servers.model.schema_cost import WORK_MAX, SchemaCost, find_depth, measure_schema

VALIDATORS_MAX = 128
"""Compiled schemas that are kept."""
BACKTRACKS_MAX = 10_000
PATTERN_BYTES_MAX = 256 * 1024
DFA_BYTES_MAX = 1024 * 1024
MESSAGE_CHARACTERS_MAX = 300

_encode = msgspec.json.Encoder(order="sorted").encode


def check_schemas(definition: ToolDefinitionRecord) -> None:
    """Raise `UnusableDefinitionError` for a definition whose schemas are none."""
    for schema in (definition.input_schema, definition.output_schema):
        if schema is None:
            continue
        try:
            # Not kept: most tools that are offered are never called.
            _compile.__wrapped__(_encode(schema))
        except UnusableDefinitionError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the compiler dislikes
            reason = str(error).splitlines()[0][:MESSAGE_CHARACTERS_MAX]
            raise UnusableDefinitionError(f"a schema is not valid: {reason}") from None


def check_arguments(definition: ToolDefinitionRecord, arguments: dict[str, Any]) -> None:
    """Raise `InvalidInputError` for arguments that the pinned input schema does not allow."""
    found = _find_error(definition.input_schema, arguments)
    if found is not None:
        path, message = found
        raise InvalidInputError(f"{message}.", param=path or None)


def find_result_fault(definition: ToolDefinitionRecord, structured: dict[str, Any] | None) -> str:
    """Return how a result differs from the pinned output schema; nothing if it does not."""
    if definition.output_schema is None:
        return ""
    if structured is None:
        return "it has no structured content"
    found = _find_error(definition.output_schema, structured)
    return f"{found[0] or 'the result'}: {found[1]}" if found is not None else ""


def _find_error(schema: dict[str, Any], value: dict[str, Any]) -> tuple[str, str] | None:
    """Return the first error: the path of the field, and what is wrong. To find all of them takes
    seconds where a list has thousands of wrong items."""
    validator, cost = _compile(_encode(schema))
    depth = find_depth(value, cost.depth_max)
    if depth > cost.depth_max:
        return "", f"it is nested deeper than {cost.depth_max}, which is too deep for this schema"
    if cost.compute_work(value, depth) > WORK_MAX:
        return "", "it has too many parts to be checked against this schema"
    try:
        validator.validate(value)
    except ValueError as error:  # a `ValidationError` of jsonschema_rs
        path = ".".join(map(str, getattr(error, "instance_path", ())))
        message = str(getattr(error, "message", error))
        return path, message[:MESSAGE_CHARACTERS_MAX].rstrip(".")
    return None


@functools.lru_cache(maxsize=VALIDATORS_MAX)
def _compile(schema: bytes) -> tuple[Any, SchemaCost]:
    """Compile a schema; return its validator, and what a check costs. References outside of it are
    not followed, and regular expressions give up after a number of steps.

    Raise `UnusableDefinitionError` for one that costs too much, which is not compiled.
    """
    jsonschema_rs: Any = importlib.import_module("jsonschema_rs")
    parsed: dict[str, Any] = msgspec.json.decode(schema)
    cost = measure_schema(parsed)
    validator = jsonschema_rs.validator_for(
        parsed,
        pattern_options=jsonschema_rs.FancyRegexOptions(
            backtrack_limit=BACKTRACKS_MAX,
            size_limit=PATTERN_BYTES_MAX,
            dfa_size_limit=DFA_BYTES_MAX,
        ),
        offline=True,
    )
    return validator, cost
