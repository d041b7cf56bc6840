"""Connections in the names of VM-X."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from headgate.api.schemas.connections import (
    ConnectionCreate,
    ConnectionResponse,
    ConnectionUpdate,
)
from headgate.api.vmx_structs import make_vmx_struct, read_vmx_body
from headgate.llm.vmx_names import to_vmx_names

MASK = "********"
"""What stands for every secret. A text that begins with half of it keeps the stored one."""
RESPONSE_NAMES = {"id": "connectionId"}
NULLS: dict[str, Any] = {
    "description": None,
    "allowed_models": [],
    "capacity": [],
    "first_byte_seconds": None,
    "idle_seconds": None,
    "total_seconds": None,
}
"""What a change to null means."""

if TYPE_CHECKING:

    class AiConnectionCreate(ConnectionCreate, frozen=True): ...

    class AiConnectionUpdate(ConnectionUpdate, frozen=True, kw_only=True):
        provider: str | UnsetType | None = UNSET

    class AiConnectionResponse(ConnectionResponse):
        workspace_id: str
        environment_id: str

else:
    AiConnectionCreate = make_vmx_struct(ConnectionCreate)
    AiConnectionUpdate = make_vmx_struct(
        ConnectionUpdate, more=[("provider", str | UnsetType | None, UNSET)]
    )
    AiConnectionResponse = make_vmx_struct(
        ConnectionResponse,
        names=RESPONSE_NAMES,
        more=[("workspace_id", str, ""), ("environment_id", str, "")],
    )


def read_connection(body: AiConnectionCreate) -> ConnectionCreate:
    return msgspec.convert(read_vmx_body(body), ConnectionCreate)


def read_connection_change(body: AiConnectionUpdate) -> ConnectionUpdate:
    fields = read_vmx_body(body, NULLS)
    fields.pop("provider", None)
    return msgspec.convert(fields, ConnectionUpdate)


def to_ai_connection_response(
    own: ConnectionResponse, organization_id: str, environment_id: str
) -> AiConnectionResponse:
    fields: dict[str, Any] = msgspec.to_builtins(own)
    models = fields.pop("discovered_capacity")
    fields["config"]["api_key"] = MASK
    named = {"connectionId": fields.pop("id"), "workspaceId": organization_id}
    named |= {"environmentId": environment_id}
    # Its keys are ids of models, and no names of fields.
    named["discoveredCapacity"] = {model: to_vmx_names(each) for model, each in models.items()}
    return msgspec.convert({**to_vmx_names(fields), **named}, AiConnectionResponse)
