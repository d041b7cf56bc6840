"""Find and run the actions of the connectors, for every face: REST, MCP, and workflows."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from headgate.connectors.model.action import (
    Action,
    ActionContext,
    DataSource,
    HandleStore,
    HttpCaller,
    ModelCaller,
    PicklistItem,
)
from headgate.connectors.model.caller import READ, WRITE, ToolCaller
from headgate.connectors.model.cleaning import (
    MILLISECONDS,
    clean_input,
    read_timeout,
    split_options,
)
from headgate.connectors.model.errors import (
    ActionTimedOutError,
    NotConfiguredError,
    describe_error,
)
from headgate.connectors.model.policy import check_allowed, find_denial
from headgate.connectors.model.schema import build_input_schema, build_output_schema
from headgate.connectors.model.tool import (
    ReportProgress,
    ToolCall,
    ToolDefinition,
    ToolResult,
    report_nothing,
)
from headgate.connectors.service.registry import Connector, ConnectorRegistry
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.rate_limiter import RateLimiter

FAILURES = frozenset({Kind.UPSTREAM, Kind.UPSTREAM_TIMEOUT, Kind.TIMEOUT})
"""What a caller cannot mend: the tool itself failed."""


GRACE_SECONDS = 0.1
"""The call that an action waits for ends before the action itself, and its receipt says why."""


class ConfiguredIntegrations(Protocol):
    def has_usable(self, organization_id: str, integration: str) -> bool:
        """Return whether an organization can use a credential of an integration now."""
        ...


class ActionPorts(msgspec.Struct, frozen=True):
    """Hold what actions reach the world through."""

    models: ModelCaller
    http: HttpCaller
    handles: HandleStore


class ActionRun(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what is said of one run beside its input. `timeout_seconds` bounds it in any case."""

    request_id: str
    idempotency_key: str | None = None
    timeout_seconds: float | None = None
    report_progress: ReportProgress = report_nothing


class ActionService:
    """Offer the actions of the integrations that a caller's organization has configured
    (`connectors.model.tool.ToolSource`)."""

    def __init__(
        self,
        registry: ConnectorRegistry,
        configured: ConfiguredIntegrations,
        ports: ActionPorts,
        rate_limiter: RateLimiter,
    ) -> None:
        self.registry = registry
        self._configured = configured
        self._ports = ports
        self._rate_limiter = rate_limiter

    def is_configured(self, connector: Connector, organization_id: str) -> bool:
        """Return whether an organization can run the actions of a connector."""
        manifest = connector.manifest
        return not manifest.needs_credential or self._configured.has_usable(
            organization_id, manifest.integration
        )

    def list(self, caller: ToolCaller) -> Sequence[Action]:
        """Return the actions that a caller may run, in the order of connectors and declarations."""
        return list_allowed(self._list_configured(caller), caller)

    def find(self, connector: str, action: str) -> Action:
        """Return an action. Raise `UnknownIntegrationError` and `UnknownActionError`."""
        return self.registry.find(connector).find_action(action)

    async def run(
        self, action: Action, caller: ToolCaller, given: Mapping[str, Any], run: ActionRun
    ) -> Any:
        """Run an action with an input as it was sent, and return its output.

        Raise `ToolForbiddenError`, `NotConfiguredError`, `InvalidInputError`, `RateLimitedError`,
        `ActionTimedOutError`, and what the action raises.
        """
        check_allowed(caller, define_tool(action))
        self._check_configured(self.registry.find(action.connector), caller)
        options, own = split_options(action.input, given)
        cleaned = clean_input(action.input, own)
        wanted = options.timeout_seconds or _find_own_timeout(cleaned) or action.timeout_seconds
        seconds = min(wanted, run.timeout_seconds or wanted)
        self._count(caller, action.endpoints)
        context = self._make_context(caller, run, options.connection, seconds)
        return await _run_for(seconds, action.run(context, cleaned), action.title)

    async def list_choices(
        self, source: DataSource, caller: ToolCaller, run: ActionRun, *, connection: str | None
    ) -> Sequence[PicklistItem]:
        """Return the choices of a data source. Raise as `run`."""
        check_allowed(caller, define_source(source))
        self._check_configured(self.registry.find(source.connector), caller)
        self._count(caller, source.endpoints)
        seconds = source.timeout_seconds
        context = self._make_context(caller, run, connection, seconds)
        return await _run_for(seconds, source.list_items(context), source.title)

    async def list_tools(self, caller: ToolCaller) -> Sequence[ToolDefinition]:
        """Return the tools of the configured integrations."""
        return [define_tool(action) for action in self._list_configured(caller)]

    def explain_absence(self, caller: ToolCaller, name: str) -> HeadgateError | None:
        """Return why a tool of an integration that is not configured is not offered; None where no
        action has this name."""
        for connector in self.registry.list():
            if self.is_configured(connector, caller.organization_id):
                continue
            for action in connector.actions:
                if name in (action.tool_name, *action.former_names):
                    denial = find_denial(caller, define_tool(action))
                    return denial or make_not_configured_error(connector)
        return None

    async def call_tool(self, tool: ToolDefinition, call: ToolCall) -> ToolResult:
        """Run the action of a tool. Raise as `run` for what the caller can mend."""
        action = next(
            each for each in self.registry.find(tool.source).actions if each.tool_name == tool.name
        )
        run = ActionRun(
            request_id=call.request_id,
            idempotency_key=call.idempotency_key,
            timeout_seconds=call.timeout_seconds,
            report_progress=call.report_progress,
        )
        try:
            output = await self.run(action, call.caller, call.arguments, run)
        except HeadgateError as error:
            if error.kind not in FAILURES:
                raise
            return ToolResult(error=describe_error(error))
        if action.to_tool_result is not None:
            return action.to_tool_result(output)
        return ToolResult(structured=msgspec.to_builtins(output))

    def _list_configured(self, caller: ToolCaller) -> Sequence[Action]:
        return [
            action
            for connector in self.registry.list()
            if self.is_configured(connector, caller.organization_id)
            for action in connector.actions
        ]

    def _check_configured(self, connector: Connector, caller: ToolCaller) -> None:
        if not self.is_configured(connector, caller.organization_id):
            raise make_not_configured_error(connector)

    def _count(self, caller: ToolCaller, endpoints: Sequence[str]) -> None:
        """Count a run against the rate of its key. Calls to models are counted by their own
        admission, each once."""
        if not endpoints and caller.grant.requests_per_minute:
            self._rate_limiter.take(caller.grant)

    def _make_context(
        self, caller: ToolCaller, run: ActionRun, connection: str | None, seconds: float
    ) -> ActionContext:
        return ActionContext(
            caller=caller,
            request_id=run.request_id,
            models=self._ports.models,
            http=self._ports.http,
            handles=self._ports.handles,
            connection=connection,
            idempotency_key=run.idempotency_key,
            timeout_seconds=seconds,
            report_progress=run.report_progress,
        )


def list_allowed(actions: Sequence[Action], caller: ToolCaller | None) -> Sequence[Action]:
    """Return the actions that a caller may run, by the policy of lists and calls; all without a
    caller."""
    if caller is None:
        return actions
    return [each for each in actions if find_denial(caller, define_tool(each)) is None]


def make_not_configured_error(connector: Connector) -> NotConfiguredError:
    manifest = connector.manifest
    error = NotConfiguredError(
        f"{manifest.display_name} is not configured: this organization has no usable "
        f"credential of {manifest.integration}."
    )
    error.recovery = (
        f'Call `setup_integration` with the service "{connector.name}" and its secrets; '
        f'`get_integration_schema` with "{connector.name}" tells which. If this key may not, '
        "ask an owner of the organization."
    )
    return error


@functools.lru_cache(maxsize=1024)
def define_tool(action: Action) -> ToolDefinition:
    """Return an action as a tool."""
    return ToolDefinition(
        name=action.tool_name,
        title=action.title,
        description=action.description,
        input_schema=build_input_schema(action.input, is_short=True),
        output_schema=build_output_schema(action.output),
        is_read_only=action.is_read_only,
        is_destructive=action.is_destructive,
        is_idempotent=action.is_idempotent,
        is_billed=bool(action.endpoints) and not action.is_read_only,
        counts_itself=True,
        is_listed=action.is_listed,
        former_names=action.former_names,
        scope=READ if action.is_read_only else WRITE,
        endpoints=action.endpoints,
        source=action.connector,
    )


@functools.lru_cache(maxsize=1024)
def define_source(source: DataSource) -> ToolDefinition:
    """Return a data source as a tool, for the policy alone: no list of tools has it."""
    return ToolDefinition(
        name=f"{source.connector}_{source.name}".replace("-", "_"),
        title=source.title,
        description=source.description,
        input_schema={},
        is_read_only=True,
        is_listed=False,
        scope=READ,
        endpoints=source.endpoints,
        source=source.connector,
    )


def _find_own_timeout(given: msgspec.Struct) -> float | None:
    """Return the time-out in seconds of an input that has a field for it, in milliseconds."""
    return read_timeout(getattr(given, "timeout", None))


async def _run_for(seconds: float, work: Any, title: str) -> Any:
    """Await the work of an action. Raise `ActionTimedOutError`."""
    bound = asyncio.timeout(seconds + GRACE_SECONDS)
    try:
        async with bound:
            return await work
    except TimeoutError as error:
        if not bound.expired():
            raise
        raise make_timed_out(title, seconds) from error


def make_timed_out(title: str, seconds: float) -> ActionTimedOutError:
    error = ActionTimedOutError(
        f"{title} was not done within {seconds * MILLISECONDS:.0f} ms.", should_retry=False
    )
    error.recovery = "Call it again with a larger `timeout` (in milliseconds), or ask for less."
    return error
