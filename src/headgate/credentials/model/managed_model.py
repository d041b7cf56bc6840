"""Managed models: models that the platform sells through its own credentials."""

from __future__ import annotations

import re

import msgspec

from headgate.kit.errors import HeadgateError, Kind

MODEL_ID = re.compile(r"[\x21-\x7e]{1,256}")
"""The form of model ids: they appear in headers, receipts and URLs."""


class ManagedModel(msgspec.Struct, frozen=True):
    """Hold a model that the platform sells, and the platform credential that serves it.

    `model_id` is the name that callers use, `wire_id` the name that the provider gets (empty: as in
    the catalog). A deprecated model with a `replacement_id` is served by that managed model. The
    default serves unknown ids. `version` counts changes from 1; times are in unix seconds.
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
    """Describe a new managed model. `credential` is an id or a name. An empty display name becomes
    the model id."""

    model_id: str
    credential: str
    wire_id: str = ""
    display_name: str = ""
    is_default: bool = False


class ManagedModelChange(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a partial update of a managed model. Unset fields stay as they are."""

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
