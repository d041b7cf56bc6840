"""Tells which integrations there are, which are configured, what they need, and what they do."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import msgspec

from headgate.catalog.model.manifest import IntegrationManifest
from headgate.connectors.model.action import Action
from headgate.connectors.model.caller import ToolCaller
from headgate.connectors.model.integration import (
    EndpointDescription,
    IntegrationDescription,
    IntegrationEndpoint,
    IntegrationOverview,
    IntegrationOverviews,
    PublicIntegration,
)
from headgate.connectors.model.policy import check_allowed
from headgate.connectors.model.schema import build_input_schema
from headgate.connectors.model.setup import list_fields, make_unknown
from headgate.connectors.service.actions import (
    ConfiguredIntegrations,
    define_tool,
    list_allowed,
)
from headgate.connectors.service.registry import ConnectorRegistry


class DirectoryEntry(msgspec.Struct, frozen=True):
    """Hold what the catalog and the connectors have of one name."""

    name: str
    manifest: IntegrationManifest
    needs_credential: bool
    actions: Sequence[Action]


class IntegrationDirectory:
    """Describe the integrations of the catalog together with the actions of their connectors."""

    def __init__(
        self,
        integrations: Mapping[str, IntegrationManifest],
        registry: ConnectorRegistry,
        configured: ConfiguredIntegrations,
    ) -> None:
        self._integrations = integrations
        self._registry = registry
        self._configured = configured

    def list(self, organization_id: str, caller: ToolCaller | None) -> IntegrationOverviews:
        """Return every integration. Endpoints are those that a caller may run; all without one,
        for who manages the organization and runs nothing."""
        configured: list[IntegrationOverview] = []
        available: list[IntegrationOverview] = []
        for each in self._list():
            is_configured = self._is_configured(each, organization_id)
            (configured if is_configured else available).append(summarize(each, caller))
        return IntegrationOverviews(configured=tuple(configured), available=tuple(available))

    def describe(
        self,
        organization_id: str,
        service: str,
        caller: ToolCaller | None,
        endpoint: str | None = None,
    ) -> IntegrationDescription:
        """Return what one integration needs and does; with an `endpoint`, that one only. Raise
        `UnknownIntegrationError` and `UnknownActionError`, and `ToolForbiddenError` for one that
        the caller may not run."""
        found = self._find(service)
        actions = list_allowed(found.actions, caller)
        if endpoint is not None:
            actions = [self._find_allowed(service, endpoint, caller)]
        schemas = found.manifest.auth_schemas[:1]
        return IntegrationDescription(
            name=found.name,
            display_name=found.manifest.display_name,
            description=found.manifest.description,
            is_configured=self._is_configured(found, organization_id),
            docs_url=found.manifest.docs_url,
            credentials=tuple(list_fields(found.manifest)),
            instructions=schemas[0].setup_instructions if schemas else (),
            endpoints=tuple(describe_endpoint(action) for action in actions),
        )

    def list_public(self) -> Sequence[PublicIntegration]:
        """Return the integrations that have connectors: these come with Headgate, so that nothing
        of this installation is told."""
        return [
            PublicIntegration(
                name=each.name,
                display_name=each.manifest.display_name,
                description=each.manifest.description,
                type=each.manifest.integration_type,
                categories=each.manifest.categories,
                docs_url=each.manifest.docs_url,
                credentials=tuple(list_fields(each.manifest)),
                endpoints=tuple(name_endpoint(action) for action in each.actions),
            )
            for each in self._list()
            if each.actions
        ]

    def _find_allowed(self, service: str, endpoint: str, caller: ToolCaller | None) -> Action:
        action = self._registry.find(service).find_action(endpoint)
        if caller is not None:
            check_allowed(caller, define_tool(action))
        return action

    def _list(self) -> Sequence[DirectoryEntry]:
        return [self._find(name) for name in self._list_names()]

    def _list_names(self) -> Sequence[str]:
        """Return the names of connectors, and then those of integrations without one."""
        names = list(self._registry.connectors)
        return [*names, *(name for name in self._integrations if name not in names)]

    def _find(self, service: str) -> DirectoryEntry:
        connector = self._registry.connectors.get(service)
        integration = service if connector is None else connector.manifest.integration
        manifest = self._integrations.get(integration)
        if manifest is None:
            raise make_unknown(sorted(self._list_names()))
        if connector is None:
            return DirectoryEntry(service, manifest, True, ())
        needs = connector.manifest.needs_credential
        return DirectoryEntry(service, manifest, needs, connector.actions)

    def _is_configured(self, found: DirectoryEntry, organization_id: str) -> bool:
        return not found.needs_credential or self._configured.has_usable(
            organization_id, found.manifest.name
        )


def find_runner(caller: ToolCaller) -> ToolCaller | None:
    """Return who runs endpoints; None for a management key, which sees all of them and runs
    none that calls models."""
    return None if caller.grant.management else caller


def summarize(found: DirectoryEntry, caller: ToolCaller | None) -> IntegrationOverview:
    return IntegrationOverview(
        name=found.name,
        display_name=found.manifest.display_name,
        description=found.manifest.description,
        type=found.manifest.integration_type,
        needs_setup=found.needs_credential,
        endpoints=tuple(name_endpoint(each) for each in list_allowed(found.actions, caller)),
    )


def name_endpoint(action: Action) -> IntegrationEndpoint:
    return IntegrationEndpoint(name=action.name, title=action.title, tool=action.tool_name)


@functools.lru_cache(maxsize=1024)
def describe_endpoint(action: Action) -> EndpointDescription:
    return EndpointDescription(
        name=action.name,
        title=action.title,
        tool=action.tool_name,
        description=action.description,
        input_schema=build_input_schema(action.input),
    )
