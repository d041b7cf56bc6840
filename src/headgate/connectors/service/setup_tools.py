"""Offers the setup of integrations to agents, as tools."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headgate.connectors.model.caller import FULL, READ, WRITE, ToolCaller
from headgate.connectors.model.cleaning import clean_input
from headgate.connectors.model.errors import ToolForbiddenError
from headgate.connectors.model.policy import check_allowed
from headgate.connectors.model.schema import build_input_schema
from headgate.connectors.model.tool import ToolCall, ToolDefinition, ToolResult
from headgate.connectors.service.actions import ActionService, define_tool
from headgate.connectors.service.directory import IntegrationDirectory, find_runner
from headgate.connectors.service.setup import SetupRequest, SetupService


class NoInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Take nothing."""


class SchemaInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name an integration, or one of its endpoints."""

    service: str
    endpoint: str | None = None


class SetupInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold the values of an integration."""

    service: str
    secrets: Annotated[
        dict[str, str], Meta(description="Values by the names of get_integration_schema")
    ]
    test: Annotated[bool, Meta(description="Try them before")] = False


class RemoveInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name an integration."""

    service: str


class ExecuteInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name an endpoint, and hold its input."""

    service: str
    endpoint: str
    input: dict[str, Any] = {}


LIST_INTEGRATIONS = ToolDefinition(
    name="list_integrations",
    title="List integrations",
    description="List integrations, configured and available, with their endpoints.",
    input_schema=build_input_schema(NoInput, is_short=True),
    is_read_only=True,
    is_idempotent=True,
    is_open_world=False,
    scope=READ,
)
GET_INTEGRATION_SCHEMA = ToolDefinition(
    name="get_integration_schema",
    title="Get integration schema",
    description="Get the secrets that an integration needs, and the inputs of its endpoints.",
    input_schema=build_input_schema(SchemaInput, is_short=True),
    is_read_only=True,
    is_idempotent=True,
    is_open_world=False,
    scope=READ,
)
SETUP_INTEGRATION = ToolDefinition(
    name="setup_integration",
    title="Set up integration",
    description="Store the secrets of an integration, or replace them. Ask the user for them.",
    input_schema=build_input_schema(SetupInput, is_short=True),
    is_destructive=True,
    is_idempotent=True,
    is_open_world=False,
    scope=FULL,
)
REMOVE_INTEGRATION = ToolDefinition(
    name="remove_integration",
    title="Remove integration",
    description="Delete what setup_integration stored, for everybody in the organization.",
    input_schema=build_input_schema(RemoveInput, is_short=True),
    is_destructive=True,
    is_idempotent=True,
    is_open_world=False,
    scope=FULL,
)
EXECUTE_INTEGRATION = ToolDefinition(
    name="execute_integration",
    title="Run integration endpoint",
    description="Run any endpoint of a configured integration.",
    input_schema=build_input_schema(ExecuteInput, is_short=True),
    is_destructive=True,
    is_billed=True,
    counts_itself=True,
    scope=WRITE,
)
TOOLS = (
    LIST_INTEGRATIONS,
    GET_INTEGRATION_SCHEMA,
    EXECUTE_INTEGRATION,
    SETUP_INTEGRATION,
    REMOVE_INTEGRATION,
)


class SetupTools:
    """Offer the integrations themselves (`connectors.model.tool.ToolSource`)."""

    def __init__(
        self, directory: IntegrationDirectory, setup: SetupService, actions: ActionService
    ) -> None:
        self._directory = directory
        self._setup = setup
        self._actions = actions
        self._runs: dict[str, Callable[[ToolCall], Awaitable[ToolResult]]] = {
            LIST_INTEGRATIONS.name: self._list,
            GET_INTEGRATION_SCHEMA.name: self._describe,
            SETUP_INTEGRATION.name: self._set_up,
            REMOVE_INTEGRATION.name: self._remove,
            EXECUTE_INTEGRATION.name: self._execute,
        }

    async def list_tools(self, caller: ToolCaller) -> Sequence[ToolDefinition]:
        return TOOLS

    async def call_tool(self, tool: ToolDefinition, call: ToolCall) -> ToolResult:
        """Run a tool. Raise `ToolForbiddenError`, `InvalidInputError`, and what the services
        raise."""
        check_allowed(call.caller, tool)
        return await self._runs[tool.name](call)

    async def _list(self, call: ToolCall) -> ToolResult:
        clean_input(NoInput, call.arguments)
        caller = call.caller
        return to_result(self._directory.list(caller.organization_id, find_runner(caller)))

    async def _describe(self, call: ToolCall) -> ToolResult:
        given = clean_input(SchemaInput, call.arguments)
        caller = call.caller
        found = self._directory.describe(
            caller.organization_id, given.service, find_runner(caller), given.endpoint
        )
        return to_result(found)

    async def _set_up(self, call: ToolCall) -> ToolResult:
        given = clean_input(SetupInput, call.arguments)
        check_organization_wide(call.caller)
        request = SetupRequest(
            organization_id=call.caller.organization_id,
            service=given.service,
            secrets=given.secrets,
            is_tested=given.test,
            key_id=call.caller.grant.key_id,
        )
        return to_result(await self._setup.set_up(request, by=call.caller.actor))

    async def _remove(self, call: ToolCall) -> ToolResult:
        given = clean_input(RemoveInput, call.arguments)
        check_organization_wide(call.caller)
        organization_id = call.caller.organization_id
        return to_result(
            await self._setup.remove(organization_id, given.service, by=call.caller.actor)
        )

    async def _execute(self, call: ToolCall) -> ToolResult:
        """Run an endpoint as its own tool does."""
        given = clean_input(ExecuteInput, call.arguments)
        action = self._actions.find(given.service, given.endpoint)
        direct = msgspec.structs.replace(call, name=action.tool_name, arguments=given.input)
        return await self._actions.call_tool(define_tool(action), direct)


def check_organization_wide(caller: ToolCaller) -> None:
    """Raise `ToolForbiddenError` for a management key of some projects: integrations belong to the
    whole organization."""
    if caller.grant.management and caller.grant.projects:
        raise ToolForbiddenError(
            "This key is limited to projects, and integrations are the organization's."
        )


def to_result(found: msgspec.Struct) -> ToolResult:
    # `to_builtins` would leave tuples, which are no JSON.
    return ToolResult(structured=msgspec.json.decode(msgspec.json.encode(found)))
