"""Resources: what `model` may name in the place of a model."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.resources.model.slot import ModelSlot


class ResourceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold what a resource does with a call.

    `model` answers, unless `routing` chooses another one; with `use_fallback`, the
    `fallback_models` follow in order. A caller may ask for one of the `secondary_models` by its
    index. `default_args` are fields of the request body where the caller states none. `capacity`
    applies only with `enforce_capacity`.
    """

    model: ModelSlot
    use_fallback: bool = False
    fallback_models: tuple[ModelSlot, ...] = ()
    secondary_models: tuple[ModelSlot, ...] = ()
    routing: dict[str, Any] | None = None
    capacity: tuple[dict[str, Any], ...] = ()
    enforce_capacity: bool = False
    default_args: dict[str, Any] = {}


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a resource of a project. `version` counts changes from 1; times are in unix seconds."""

    id: str
    organization_id: str
    project_id: str
    name: str
    description: str | None
    config: ResourceConfig
    created_at: float
    updated_at: float
    version: int = 1
