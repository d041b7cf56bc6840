"""What is told of integrations: which are configured, what they need, and what they can do."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.connectors.model.setup import SetupField


class IntegrationEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Name one action of an integration, and its tool."""

    name: str
    title: str
    tool: str


class EndpointDescription(IntegrationEndpoint, frozen=True, kw_only=True):
    """Describe one action of an integration. `input_schema` is the JSON Schema of its input."""

    description: str
    input_schema: dict[str, Any]


class IntegrationOverview(msgspec.Struct, frozen=True, kw_only=True):
    """Describe an integration in one line, with the actions that the caller may run."""

    name: str
    display_name: str
    description: str
    type: str
    needs_setup: bool
    endpoints: tuple[IntegrationEndpoint, ...]


class IntegrationOverviews(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the integrations that an organization can use now, and those that it could set up."""

    configured: tuple[IntegrationOverview, ...]
    available: tuple[IntegrationOverview, ...]


class IntegrationDescription(msgspec.Struct, frozen=True, kw_only=True):
    """Describe an integration for whoever sets it up and runs it."""

    name: str
    display_name: str
    description: str
    is_configured: bool
    docs_url: str | None
    credentials: tuple[SetupField, ...]
    instructions: tuple[str, ...]
    endpoints: tuple[EndpointDescription, ...]


class PublicIntegration(msgspec.Struct, frozen=True, kw_only=True):
    """Describe an integration for everybody: what ships with this version, and nothing of an
    organization."""

    name: str
    display_name: str
    description: str
    type: str
    categories: tuple[str, ...]
    docs_url: str | None
    credentials: tuple[SetupField, ...]
    endpoints: tuple[IntegrationEndpoint, ...]
