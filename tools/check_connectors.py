"""Check that every connector is whole: `python tools/check_connectors.py`.

What an action lacks here is missing on a page, in a tool or in a form: `tests/rules` runs it.
"""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from headgate.catalog.service.catalog import Catalog
from headgate.connectors.model.action import Action, ActionAnswer, ActionContext
from headgate.connectors.model.caller import ToolCaller, make_key_caller
from headgate.connectors.model.cleaning import clean_input
from headgate.connectors.model.errors import InvalidInputError
from headgate.connectors.model.form import build_form
from headgate.connectors.model.schema import DEFINITIONS, Schema, build_input_schema
from headgate.connectors.model.tool import ANY_ENDPOINT
from headgate.connectors.service.actions import define_tool
from headgate.connectors.service.registry import (
    FOLDER,
    TOOL_NAME,
    Connector,
    ConnectorRegistry,
    InvalidConnectorError,
)
from headgate.kit.errors import HeadgateError
from headgate.llm import routes
from headgate.llm.providers.openai import PROVIDER
from headgate.relay.ports import Grant

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "unit" / "connectors"
KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
ALLOWED = ("headgate.connectors.model", "headgate.kit", "headgate.llm")
"""What a connector may import of Headgate, beside its own modules."""
ENDPOINTS = {endpoint.name for endpoint in PROVIDER.endpoints}
ROUTES = routes.RouteTable(PROVIDER.endpoints)
GRANT = Grant("key_check", "org_check", "proj_check")


class SentRequest(msgspec.Struct, frozen=True):
    method: str
    target: str


class RefusingCaller:
    """Answer every request of an action with an error, and keep it."""

    def __init__(self) -> None:
        self.models: list[SentRequest] = []
        self.http: list[SentRequest] = []

    async def send(self, caller: ToolCaller, *given: str, **_named: Any) -> ActionAnswer:
        """Take the arguments of both kinds of callers: the path comes last."""
        method, target = given[-2:]
        kept = self.models if target.startswith("/v1/") and len(given) == 2 else self.http
        kept.append(SentRequest(method, target))
        error = {"error": {"message": "Refused by the check.", "type": "check", "code": "check"}}
        return ActionAnswer(400, {"content-type": "application/json"}, msgspec.json.encode(error))


def list_faults(folder: Path = FOLDER, tests: Path = TESTS) -> list[str]:
    """Return what is wrong with the connectors of a folder."""
    try:
        registry = ConnectorRegistry.load(folder)
    except InvalidConnectorError as error:
        return [error.message]
    catalog = Catalog.load()
    faults: list[str] = []
    names: Counter[str] = Counter()
    for connector in registry.list():
        faults += _check_connector(connector, catalog, folder / connector.name, tests)
        for action in connector.actions:
            names.update((action.tool_name, *action.former_names))
            where = f"{connector.name}/{action.name}"
            faults += [f"{where}: {fault}" for fault in _check_action(action)]
    faults += [f"two tools are named {name}" for name, count in names.items() if count > 1]
    return faults


def _check_connector(
    connector: Connector, catalog: Catalog, folder: Path, tests: Path
) -> Iterator[str]:
    name = connector.name
    integration = catalog.integrations.get(connector.manifest.integration)
    if integration is None:
        yield f"{name}: the catalog has no integration {connector.manifest.integration}"
    elif integration.integration_type == "tool":
        listed = {each.name.replace("_", "-") for each in integration.actions}
        declared = {action.name for action in connector.actions}
        if listed != declared:
            yield f"{name}: the catalog lists {sorted(listed)}, and not {sorted(declared)}"
    if not connector.actions:
        yield f"{name}: it has no action"
    if not any(tests.glob(f"**/test_{name}*.py")):
        yield f"{name}: there is no tests/unit/connectors/test_{name}.py"
    for path in sorted(folder.glob("**/*.py")):
        yield from _check_imports(path, name)


def _check_imports(path: Path, connector: str) -> Iterator[str]:
    allowed = (*ALLOWED, f"headgate.connectors.{connector}")
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        module = node.module if isinstance(node, ast.ImportFrom) else None
        names = [module] if module else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            is_ours = name == "headgate" or name.startswith("headgate.")
            if is_ours and not name.startswith(allowed):
                yield f"{connector}/{path.name}: a connector does not import {name}"


def _check_action(action: Action) -> Iterator[str]:
    if not KEBAB.fullmatch(action.name):
        yield "its name is not in kebab-case"
    for name in (action.tool_name, *action.former_names):
        if not TOOL_NAME.fullmatch(name):
            yield f"{name} is no name of a tool: {TOOL_NAME.pattern}"
    if not action.description.endswith("."):
        yield "its docstring is no sentence"
    for endpoint in action.endpoints:
        if endpoint not in (*ENDPOINTS, ANY_ENDPOINT):
            yield f"there is no endpoint {endpoint}"
    yield from _check_schemas(action)
    yield from _run_dry(action)


def _check_schemas(action: Action) -> Iterator[str]:
    tool = define_tool(action)
    if DEFINITIONS in tool.input_schema or DEFINITIONS in (tool.output_schema or {}):
        yield "its types contain themselves, so that its schema has references"
    schema = build_input_schema(action.input)
    for name, field in cast("dict[str, Schema]", schema["properties"]).items():
        if not (field.get("title") or field.get("description")):
            yield f"the field {name} has neither title nor description"
    if [each.name for each in build_form(action.input)] != list(schema["properties"]):
        yield "its form has other fields than its schema"


def _run_dry(action: Action) -> Iterator[str]:
    """Run the action before a provider that refuses everything."""
    try:
        given = clean_input(action.input, make_sample(build_input_schema(action.input)))
    except InvalidInputError as error:
        yield f"its own schema makes an input that it refuses: {error.message}"
        return
    caller = RefusingCaller()
    port = cast("Any", caller)
    context = ActionContext(
        caller=make_key_caller(GRANT), request_id="req_check", models=port, http=port, handles=port
    )
    try:
        asyncio.run(cast("Any", action.run(context, given)))
    except HeadgateError:
        yield from _check_sent(action, caller)
    else:
        yield "it succeeds although the provider refused it"


def _check_sent(action: Action, caller: RefusingCaller) -> Iterator[str]:
    if not (caller.models or caller.http):
        yield "it fails before it asks anybody, with the plainest input"
    if bool(caller.models) != bool(action.endpoints):
        yield "it names endpoints that it does not call, or calls some that it does not name"
    for request in caller.models:
        path = request.target.partition("?")[0].removeprefix("/v1")
        endpoint = ROUTES.match(request.method, path).name
        if endpoint not in action.endpoints and ANY_ENDPOINT not in action.endpoints:
            yield f"it calls {endpoint}, which it does not name"


def make_sample(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plainest object that fits a schema: its required fields."""
    required = cast("list[str]", schema.get("required", []))
    properties = cast("dict[str, Schema]", schema.get("properties", {}))
    return {name: _make_value(properties[name]) for name in required}


def _make_value(schema: Schema) -> Any:
    if "anyOf" in schema:
        return _make_value(cast("list[Schema]", schema["anyOf"])[0])
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    kind = schema.get("type")
    if kind == "object":
        return make_sample(schema)
    if kind == "array":
        return [_make_value(schema.get("items", {}))] * max(1, schema.get("minItems", 1))
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    return kind != "boolean" and "x" * max(1, schema.get("minLength", 1))


def main() -> int:
    faults = list_faults()
    for fault in faults:
        print(fault)
    print(f"connectors: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
