"""Builds the MCP server from the parts of the application."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from starlette.routing import BaseRoute, Route

from headgate.api.access_denials import DeniedRequest
from headgate.api.services import Services
from headgate.connectors.model.action import ModelCaller
from headgate.connectors.model.caller import ToolCaller
from headgate.connectors.model.tool import ToolSource
from headgate.connectors.openai.refusals import make_refusal
from headgate.kit.clock import SteadyClock
from headgate.kit.db.repetition_store import RepetitionStore
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.money import format_dollars
from headgate.main.application import Application
from headgate.main.assets import build_asset_tools
from headgate.main.setup import build_setup_tools
from headgate.mcp.authentication import (
    AgentAuthentication,
    AgentRequest,
    read_tokens,
)
from headgate.mcp.endpoint import EndpointLimits, McpEndpoint
from headgate.mcp.origins import OriginCheck
from headgate.mcp.repetitions import Repetitions
from headgate.mcp.resources import ResourceRegistry, SharedResource
from headgate.mcp.tool_runner import OnCalled, RunLimits, ToolRunner
from headgate.mcp.toolbox import Toolbox
from headgate.mcp_servers.service.tool_source import McpServerTools
from headgate.metering.model.usage import Measures
from headgate.metering.model.usage_range import read_range
from headgate.metering.service.usage import UsageRequest, find_zone_of, query_usage
from headgate.metering.store.usage import UsageFilter
from headgate.oauth.model.challenge import MCP_PATH
from headgate.relay.body_budget import BodyBudget

USAGE_MODELS_MAX = 50


class McpParts(msgspec.Struct, frozen=True):
    """Hold the endpoint, and what its metrics are read from."""

    endpoint: McpEndpoint
    gauges: Mapping[str, Callable[[], float]]
    counters: Mapping[str, Callable[[], float]]

    @property
    def routes(self) -> list[BaseRoute]:
        """Return the routes of the endpoint, which clients write with and without a slash."""
        return [Route(path, self.endpoint) for path in (MCP_PATH, f"{MCP_PATH}/")]


def build_mcp(
    application: Application,
    writer: Writer,
    services: Services,
    *,
    servers: McpServerTools,
    models: ModelCaller | None = None,
    bodies: BodyBudget | None = None,
    log_call: OnCalled | None = None,
) -> McpParts:
    """Build the MCP server. `servers` are the tools of other servers; `bodies` counts the memory of
    requests, beside that of model calls; `log_call` takes the line of each tool call."""
    settings = application.settings
    toolbox = Toolbox(
        list_sources(services, servers),
        explanations=(services.actions.explain_absence, servers.explain_absence),
    )
    repetitions = build_repetitions(application, writer)
    limits = RunLimits(settings.tool_seconds_max, settings.tool_result_tokens_max)
    runner = ToolRunner(repetitions, services.handles, limits, log_call)
    resources = ResourceRegistry(build_resources(services, models))

    def build_server() -> Any:
        # Imported for the first request: the SDK takes about a second.
        protocol = importlib.import_module("headgate.mcp.protocol")
        return protocol.build_server(toolbox, runner, resources)

    endpoint = McpEndpoint(
        AgentAuthentication(services.key_index, services.signatures, services.oauth.access_tokens),
        toolbox,
        origins=OriginCheck(settings.cors_origins, settings.public_url),
        signatures=services.signatures,
        rate_limits=services.rate_limiter,
        make_id=services.ids.make,
        build_server=build_server,
        public_url=services.authentication.public_url,
        limits=EndpointLimits(settings.mcp_body_bytes_max, settings.mcp_requests_max),
        bodies=bodies,
        on_denied=DenialRecorder(services),
    )
    return McpParts(
        endpoint,
        {"mcp_requests_in_flight": lambda: endpoint.running},
        {
            "mcp_requests": lambda: endpoint.requests,
            "mcp_refusals": lambda: endpoint.refusals,
            "tool_calls": lambda: runner.calls,
            "tool_errors": lambda: runner.errors,
            "tool_repetitions": lambda: repetitions.count,
        },
    )


def list_sources(services: Services, servers: ToolSource) -> Sequence[ToolSource]:
    """Return the sources of tools, in the order in which a list shows them."""
    return (
        build_setup_tools(services),
        build_asset_tools(services),
        services.actions,
        servers,
    )


def build_repetitions(application: Application, writer: Writer) -> Repetitions:
    """Build what recognizes repeated calls; nothing is one where the window is 0."""
    seconds = application.settings.tool_repeat_seconds
    if not seconds:
        return Repetitions(None)
    clock = SteadyClock(application.database_clock)
    is_shared = application.settings.database_url is not None
    store = RepetitionStore(writer, clock, window_seconds=seconds, is_shared=is_shared)
    return Repetitions(store)


class DenialRecorder:
    """Record requests that are not authenticated, as those of the other APIs."""

    def __init__(self, services: Services) -> None:
        self._denials = services.denials

    def __call__(self, error: HeadgateError, request: AgentRequest) -> None:
        if error.kind is not Kind.UNAUTHENTICATED:
            return
        try:
            token = next(iter(read_tokens(request)), b"")
        except HeadgateError:
            token = b""
        # Whoever looks for the way to connect has no token, and is nobody to write about.
        if token:
            self._denials.record(
                DeniedRequest("/mcp", error.code, request.address, token, request.user_agent)
            )


def build_resources(services: Services, models: ModelCaller | None) -> list[SharedResource]:
    async def read_models(caller: ToolCaller) -> Any:
        assert models is not None
        # The request for the resource was counted, and this is no other one.
        grant = msgspec.structs.replace(caller.grant, requests_per_minute=0)
        uncounted = msgspec.structs.replace(caller, grant=grant)
        answer = await models.send(uncounted, "GET", "/v1/models")
        if answer.is_failure:
            raise make_refusal(answer)
        return json.loads(answer.body)

    async def read_usage(caller: ToolCaller) -> Any:
        now = services.clock.now()
        return await services.storage.read(
            lambda connection: describe_usage(connection, caller, now)
        )

    usage = SharedResource(
        "headgate://usage",
        "usage",
        "Usage",
        "What this key used and spent this month, in all and by model.",
        read_usage,
    )
    if models is None:
        return [usage]
    listed = SharedResource(
        "headgate://models",
        "models",
        "Models",
        "The models that this key may call, with prices and limits.",
        read_models,
    )
    return [listed, usage]


def describe_usage(connection: sa.Connection, caller: ToolCaller, now: float) -> dict[str, Any]:
    """Return the usage of this month: of an inference key its own, else of the organization."""
    grant = caller.grant
    zone = find_zone_of(connection, grant.organization_id)
    start, end = read_range("", "", zone=zone, now=now)
    filters = UsageFilter(
        organization_id=grant.organization_id,
        projects=grant.projects,
        own_key_id="" if grant.management else grant.key_id,
    )
    answer = query_usage(
        connection,
        UsageRequest(
            filters=filters,
            start=start,
            end=end,
            zone=zone,
            group_by=("model",),
            limit=USAGE_MODELS_MAX,
            with_latency=False,
        ),
    )
    return {
        "since": start // 1_000_000,
        "until": end // 1_000_000,
        "time_zone": zone,
        "total": describe_measures(answer.total),
        "by_model": [
            {"model": row.group[0], **describe_measures(row.measures)} for row in answer.rows
        ],
    }


def describe_measures(measures: Measures) -> dict[str, Any]:
    return {
        "requests": measures.requests,
        "input_tokens": measures.input_tokens,
        "output_tokens": measures.output_tokens,
        "cost_dollars": format_dollars(measures.cost_nano),
    }
