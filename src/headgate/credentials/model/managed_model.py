"""What a managed model is: one that the platform sells, through a credential of its own."""

from __future__ import annotations

import re

import msgspec

from headgate.kit.errors import HeadgateError, Kind

MODEL_ID = re.compile(r"[\x21-\x7e]{1,256}")
"""What a model may be called: it goes into headers, receipts and addresses."""


class ManagedModel(msgspec.Struct, frozen=True):
    """A model that the platform sells, and the credential of the platform that serves it.

    `model_id` is what callers name, `wire_id` what the provider is told (empty: as the catalog has
    it). A deprecated one with a `replacement_id` is served by that managed model. The default
    serves ids that are unknown. `version` counts its changes from 1; times in unix seconds.
    """

    id: str
    model_id: str
    credential_id: str
    wire_id: str
    display_name: str
    deprecated: bool
    replacement_id: str | None
    is_default: bool
    enabled: bool
    created_at: float
    updated_at: float
    version: int = 1


class ManagedModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a new managed model shall be. `credential` is an id or name; an empty name is the
    model's id."""

    model_id: str
    credential: str
    wire_id: str = ""
    display_name: str = ""
    is_default: bool = False


class ManagedModelChange(msgspec.Struct, frozen=True, kw_only=True):
    """What of a managed model shall be otherwise; what is left out stays."""

    credential: str | msgspec.UnsetType = msgspec.UNSET
    wire_id: str | msgspec.UnsetType = msgspec.UNSET
    display_name: str | msgspec.UnsetType = msgspec.UNSET
    deprecated: bool | msgspec.UnsetType = msgspec.UNSET
    replacement_id: str | msgspec.UnsetType | None = msgspec.UNSET
    is_default: bool | msgspec.UnsetType = msgspec.UNSET
    enabled: bool | msgspec.UnsetType = msgspec.UNSET


class ManagedModelNotFoundError(HeadgateError):
    """There is no managed model of this id.

    List them with `headgate models list`.
    """

    kind = Kind.MISSING
    code = "not_found"


class InvalidManagedModelError(HeadgateError):
    """A field of the managed model is invalid.

    Correct the field that the message names.
    """

    kind = Kind.INVALID
    code = "invalid_managed_model"


class ManagedModelConflictError(HeadgateError):
    """The managed model exists already, still replaces another one, or was changed meanwhile.

    Read it again, and do what the message names first.
    """

    kind = Kind.CONFLICT
    code = "managed_model_conflict"


class ManagedModelDisabledError(HeadgateError):
    """The managed model is switched off, or is replaced by one that is.

    Call another model; `GET /v1/models` lists those that are available.
    """

    kind = Kind.MISSING
    code = "model_not_found"
