"""Connectors and their actions as the platform API writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headgate.api.schemas.fields import build_response
from headgate.connectors.model.action import Action, PicklistItem
from headgate.connectors.model.cleaning import MILLISECONDS
from headgate.connectors.model.form import FormField, build_form
from headgate.connectors.model.schema import build_input_schema, build_output_schema
from headgate.connectors.service.registry import Connector


class ConnectorActionSummary(msgspec.Struct):
    """An action of a connector, without its schema."""

    name: str
    title: str
    description: str
    tool_name: str
    is_read_only: bool


class DataSourceResponse(msgspec.Struct):
    """A list of choices that depends on the account, such as its models."""

    name: str
    title: str
    description: str


class ConnectorResponse(msgspec.Struct):
    """A connector with its actions. A key sees the actions that it may run; people see all."""

    name: str
    display_name: str
    description: str
    integration: str
    docs_url: str | None
    needs_credential: bool
    configured: bool
    actions: list[ConnectorActionSummary]
    data_sources: list[DataSourceResponse]


class ConnectorList(msgspec.Struct):
    """All connectors of this installation."""

    connectors: list[ConnectorResponse]
    total: int


class FormOptionResponse(msgspec.Struct):
    """A choice of a field."""

    label: str
    value: Any


class FormFieldResponse(msgspec.Struct):
    """A field of a form that asks for an action's input."""

    name: str
    label: str
    kind: str
    required: bool
    help: str
    default: Any
    example: Any
    options: list[FormOptionResponse]
    data_source: str | None
    minimum: float | None
    maximum: float | None
    length_min: int | None
    length_max: int | None
    items: list[FormFieldResponse]


class ConnectorActionResponse(msgspec.Struct):
    """An action with the JSON Schemas of its input and output, and a form for its input."""

    name: str
    connector: str
    title: str
    description: str
    tool_name: str
    former_names: list[str]
    is_read_only: bool
    is_destructive: bool
    is_idempotent: bool
    endpoints: list[str]
    timeout: int
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    form: list[FormFieldResponse]


class ActionDataResponse(msgspec.Struct):
    """What an action answered."""

    data: Any


class IntegrationDataResponse(msgspec.Struct, kw_only=True):
    """What an endpoint of an integration answered."""

    success: bool = True
    data: Any


class ErrorObjectResponse(msgspec.Struct):
    """What is wrong, where, and what to do next."""

    type: str
    code: str
    message: str
    field: str | msgspec.UnsetType = msgspec.UNSET
    recovery: str | msgspec.UnsetType = msgspec.UNSET


class ErrorEnvelope(msgspec.Struct):
    """An error of an endpoint of an integration."""

    success: bool
    error_object: ErrorObjectResponse


class PicklistItemResponse(msgspec.Struct):
    """One choice: what people read, and what is sent."""

    label: str
    key: str


class PicklistResponse(msgspec.Struct):
    """The choices of a data source."""

    data: list[PicklistItemResponse]


class DataSourceQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select the account of a data source."""

    connection: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


def to_connector_response(
    connector: Connector, actions: Sequence[Action], *, configured: bool
) -> ConnectorResponse:
    return build_response(
        ConnectorResponse,
        connector.manifest,
        configured=configured,
        actions=[build_response(ConnectorActionSummary, each) for each in actions],
        data_sources=[build_response(DataSourceResponse, each) for each in connector.data_sources],
    )


def to_action_response(action: Action) -> ConnectorActionResponse:
    return build_response(
        ConnectorActionResponse,
        action,
        timeout=round(action.timeout_seconds * MILLISECONDS),
        input_schema=build_input_schema(action.input),
        output_schema=build_output_schema(action.output),
        form=[_to_field_response(each) for each in build_form(action.input)],
    )


def _to_field_response(field: FormField) -> FormFieldResponse:
    return build_response(
        FormFieldResponse,
        field,
        options=[build_response(FormOptionResponse, each) for each in field.options],
        items=[_to_field_response(each) for each in field.items],
    )


def to_picklist_response(items: list[PicklistItem]) -> PicklistResponse:
    return PicklistResponse([build_response(PicklistItemResponse, each) for each in items])
