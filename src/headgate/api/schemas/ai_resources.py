"""Resources in the names of VM-X."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.api.schemas.resources import ResourceCreate, ResourceResponse, ResourceUpdate
from headgate.api.vmx_structs import make_vmx_struct, read_vmx_body
from headgate.llm.vmx_names import to_vmx_names

NULLS: dict[str, Any] = {
    "description": None,
    "routing": None,
    "fallback_models": (),
    "secondary_models": (),
    "capacity": (),
    "default_args": {},
}
"""What a change to null means."""
RESPONSE_NAMES = {
    "id": "resourceId",
    "organization_id": "workspaceId",
    "project_id": "environmentId",
}

if TYPE_CHECKING:

    class AiResourceCreate(ResourceCreate, frozen=True): ...

    class AiResourceUpdate(ResourceUpdate, frozen=True): ...

    class AiResourceResponse(ResourceResponse): ...

else:
    AiResourceCreate = make_vmx_struct(ResourceCreate, names={"project_id": ""})
    AiResourceUpdate = make_vmx_struct(ResourceUpdate)
    AiResourceResponse = make_vmx_struct(ResourceResponse, names=RESPONSE_NAMES)


def read_creation(body: AiResourceCreate, project_id: str) -> ResourceCreate:
    fields = {**read_vmx_body(body), "project_id": project_id}
    return msgspec.convert(fields, ResourceCreate)


def read_change(body: AiResourceUpdate) -> ResourceUpdate:
    return msgspec.convert(read_vmx_body(body, NULLS), ResourceUpdate)


def to_ai_resource_response(own: ResourceResponse) -> AiResourceResponse:
    fields: dict[str, Any] = msgspec.to_builtins(own)
    renamed: dict[str, Any] = {RESPONSE_NAMES[name]: fields.pop(name) for name in RESPONSE_NAMES}
    return msgspec.convert({**to_vmx_names(fields), **renamed}, AiResourceResponse)
