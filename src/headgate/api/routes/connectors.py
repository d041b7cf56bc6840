"""Connectors: their actions as integrators and programs call them.

`/api/connectors` has one address for each action, whose answer is `{"data"}`. The same actions are
endpoints of `/api/integrations/{connector}`, in an envelope that says whether they succeeded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from headgate.accounts.model import Role
from headgate.api.access import tools
from headgate.api.operation import Operations, RequestContext
from headgate.api.parsing import parse_object
from headgate.api.schemas.connectors import (
    ActionDataResponse,
    ConnectorActionResponse,
    ConnectorList,
    ConnectorResponse,
    DataSourceQuery,
    IntegrationDataResponse,
    PicklistResponse,
    to_action_response,
    to_connector_response,
    to_picklist_response,
)
from headgate.api.schemas.fields import AnyQuery, Empty, RawBody
from headgate.connectors.model.action import Action, WholeAnswer
from headgate.connectors.service.actions import ActionRun, list_allowed
from headgate.connectors.service.registry import Connector
from headgate.kit.errors import HeadgateError, Kind

OPERATIONS = Operations(
    "Connectors", "Actions of connected services: typed calls for programs and agents."
)
READ = tools("connectors:read", roles=frozenset(Role))
RUN = tools("connectors:write", counts_itself=True)
RUN_READ_ONLY = tools("connectors:read", counts_itself=True)
INPUT_BYTES_MAX = 8 * 1024 * 1024
ACTION_PATH = "/api/connectors/{connector}/actions/{action_name}"
ENDPOINT_PATH = "/api/integrations/{connector}/{action_name}"
FAILURES = (402, 405, 409, 501, 502, 504)


class ActionNotReadOnlyError(HeadgateError):
    """The endpoint does more than read, so that GET does not run it.

    Send its input as a JSON object with POST.
    """

    kind = Kind.METHOD
    code = "action_not_read_only"


@OPERATIONS.get("/api/connectors", access=READ, summary="List connectors")
async def list_connectors(context: RequestContext[Empty, Empty]) -> ConnectorList:
    """Return every connector with its actions. `configured` tells whether the organization has what
    it needs; a connector that is not is set up with a credential of its integration."""
    connectors = [
        show_connector(context, each) for each in context.services.actions.registry.list()
    ]
    return ConnectorList(connectors, len(connectors))


@OPERATIONS.get("/api/connectors/{connector}", access=READ, summary="Read a connector")
async def get_connector(context: RequestContext[Empty, Empty]) -> ConnectorResponse:
    """Return one connector with its actions and data sources."""
    found = context.services.actions.registry.find(context.path["connector"])
    return show_connector(context, found)


@OPERATIONS.get(ACTION_PATH, access=READ, summary="Read an action")
async def get_connector_action(context: RequestContext[Empty, Empty]) -> ConnectorActionResponse:
    """Return an action with the JSON Schemas of its input and output, and with a form that asks for
    its input."""
    return to_action_response(find_action(context))


@OPERATIONS.post(
    ACTION_PATH,
    access=RUN,
    summary="Run an action",
    errors=FAILURES,
    body_bytes_max=INPUT_BYTES_MAX,
)
async def run_connector_action(context: RequestContext[Empty, RawBody]) -> ActionDataResponse:
    """Run an action. The body is its input as a JSON object; `timeout` (in milliseconds) and
    `connection` (id or name of a credential) may stand beside the fields that it declares. With an
    `Idempotency-Key`, a repeated call to a model is answered from the first one."""
    given = parse_object(context.request, context.raw)
    output = await run_action(context, given)
    if isinstance(output, WholeAnswer):
        # It has `data`, and more.
        return cast("ActionDataResponse", output)
    return ActionDataResponse(output)


@OPERATIONS.get(
    "/api/connectors/{connector}/data-sources/{data_source}",
    access=RUN_READ_ONLY,
    summary="List the choices of a field",
    errors=FAILURES,
)
async def list_data_source(context: RequestContext[DataSourceQuery, Empty]) -> PicklistResponse:
    """Return the choices of a field that depend on the account, such as its models, sorted by
    label."""
    actions = context.services.actions
    source = actions.registry.find(context.path["connector"]).find_data_source(
        context.path["data_source"]
    )
    items = await actions.list_choices(
        source, context.tool_caller, make_run(context), connection=context.query.connection
    )
    return to_picklist_response(list(items))


@OPERATIONS.post(
    ENDPOINT_PATH,
    access=RUN,
    summary="Run an endpoint of an integration",
    errors=FAILURES,
    is_enveloped=True,
    body_bytes_max=INPUT_BYTES_MAX,
)
async def execute_integration(context: RequestContext[Empty, RawBody]) -> IntegrationDataResponse:
    """Run an action of a connector as an endpoint of its integration. The body is the input as a
    JSON object, as for `/api/connectors/{connector}/actions/{action_name}`. An error has an
    `error_object` that says what to do next."""
    given = parse_object(context.request, context.raw)
    return IntegrationDataResponse(data=await run_action(context, given))


@OPERATIONS.get(
    ENDPOINT_PATH,
    access=RUN_READ_ONLY,
    summary="Read an endpoint of an integration",
    errors=FAILURES,
    is_enveloped=True,
)
async def read_integration(context: RequestContext[AnyQuery, Empty]) -> IntegrationDataResponse:
    """Run an action that only reads, such as `list-models`. Its input is in the query."""
    if not find_action(context).is_read_only:
        raise ActionNotReadOnlyError("This endpoint acts: send its input with POST.")
    given = dict(context.request.query_params)
    return IntegrationDataResponse(data=await run_action(context, given))


def show_connector(context: RequestContext[Any, Any], connector: Connector) -> ConnectorResponse:
    """Return a connector with the actions that the caller may run."""
    caller = None if context.principal.grant is None else context.tool_caller
    actions = list_allowed(connector.actions, caller)
    configured = context.services.actions.is_configured(connector, context.organization_id)
    return to_connector_response(connector, actions, configured=configured)


def find_action(context: RequestContext[Any, Any]) -> Action:
    """Return the action that the path names. Raise `UnknownIntegrationError` and
    `UnknownActionError`."""
    path = context.path
    return context.services.actions.find(path["connector"], path["action_name"])


async def run_action(context: RequestContext[Any, Any], given: Mapping[str, Any]) -> Any:
    """Run the action that the path names."""
    action = find_action(context)
    return await context.services.actions.run(action, context.tool_caller, given, make_run(context))


def make_run(context: RequestContext[Any, Any]) -> ActionRun:
    key = context.request.headers.get("idempotency-key")
    return ActionRun(request_id=context.request_id, idempotency_key=key)
