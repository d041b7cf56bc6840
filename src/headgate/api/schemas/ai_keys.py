"""API keys in the names of VM-X."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.errors import InvalidFieldError
from headgate.api.schemas.keys import Entries, KeyCreate, KeyResponse, KeyUpdate
from headgate.api.vmx_structs import make_vmx_struct, read_vmx_body
from headgate.keys.model import KeyState
from headgate.llm.vmx_names import to_vmx_names

LABELS_MAX = 32
Label = Annotated[str, Meta(min_length=1, max_length=64)]
AiLabels = Annotated[list[Label], Meta(max_length=LABELS_MAX)]
LEFT_OUT = dict.fromkeys(
    ("kind", "project_id", "organization_id", "labels", "permissions", "rate_limit_per_minute"), ""
)
RESPONSE_NAMES = {
    "id": "apiKeyId",
    "organization_id": "workspaceId",
    "project_id": "environmentId",
}
NULLS: dict[str, Any] = {"description": "", "labels": {}, "capacity": []}
"""What a change to null means."""

if TYPE_CHECKING:

    class AiKeyCreate(KeyCreate, frozen=True, kw_only=True):
        enabled: bool | None = True

    class AiKeyUpdate(KeyUpdate, frozen=True): ...

    class AiKeyResponse(KeyResponse): ...

else:
    AiKeyCreate = make_vmx_struct(
        KeyCreate,
        names={**LEFT_OUT, "resources": ""},
        more=[
            ("resources", Entries | None, None),
            ("labels", AiLabels | None, None),
            ("enabled", bool | None, True),
        ],
    )
    AiKeyUpdate = make_vmx_struct(
        KeyUpdate, names=LEFT_OUT, more=[("labels", AiLabels | UnsetType | None, UNSET)]
    )
    AiKeyResponse = make_vmx_struct(
        KeyResponse,
        names={**RESPONSE_NAMES, "labels": ""},
        more=[
            ("labels", list[str], []),
            ("enabled", bool, True),
            ("api_key_value", str | UnsetType, UNSET),
        ],
    )


def read_key(body: AiKeyCreate, project_id: str) -> KeyCreate:
    """Return the body for a new key of a project. Raise `InvalidFieldError`."""
    fields = read_fields(body)
    # In VM-X, a key has the capacity that it is said to enforce, and else none.
    fields.setdefault("enforce_capacity", False)
    fields.pop("enabled", None)
    return msgspec.convert({**fields, "project_id": project_id}, KeyCreate)


def read_key_change(body: AiKeyUpdate) -> KeyUpdate:
    """Return the changes of a key. Raise `InvalidFieldError`."""
    return msgspec.convert(read_fields(body), KeyUpdate)


def read_fields(body: msgspec.Struct) -> dict[str, Any]:
    fields = read_vmx_body(body, NULLS)
    if isinstance(fields.get("labels"), list):
        fields["labels"] = dict.fromkeys(fields["labels"], "")
    if body.resources == []:  # type: ignore[attr-defined]
        raise InvalidFieldError(
            "A key without resources could call none. Name some, or leave the field out for all.",
            ("body", "resources"),
        )
    return fields


def to_ai_key_response(own: KeyResponse, token: str | UnsetType = UNSET) -> AiKeyResponse:
    """Return a key for a reader; `token` is shown to who creates it."""
    fields: dict[str, Any] = msgspec.to_builtins(own)
    # They are the owner's own, and no names of fields.
    labels = list(fields.pop("labels"))
    renamed: dict[str, Any] = {RESPONSE_NAMES[name]: fields.pop(name) for name in RESPONSE_NAMES}
    renamed |= {"labels": labels, "enabled": own.state not in (KeyState.DISABLED, KeyState.REVOKED)}
    if token is not UNSET:
        renamed["apiKeyValue"] = token
    return msgspec.convert({**to_vmx_names(fields), **renamed}, AiKeyResponse)
