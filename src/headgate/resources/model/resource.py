"""Resources: what `model` may name in the place of a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec.structs import replace

from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.capacity_limits import CapacityEntries, CapacityEntry, find_invalid_limit
from headgate.relay.targets import TARGETS_MAX
from headgate.resources.model.routing_config import RoutingConfig
from headgate.resources.model.slot import ModelSlot

NAME = re.compile(r"[A-Za-z0-9_.:/@-]{1,128}")
"""The form of names, which is that of the `resources` of keys."""
NAME_FORM = "A name is 1 to 128 letters, digits and _.:/@-"
DESCRIPTION_CHARACTERS_MAX = 1_000
SECONDARY_MODELS_MAX = 50
DEFAULT_ARGS_BYTES_MAX = 65_536
RESERVED_ARGS = frozenset({"model", "stream", "background", "vmx", "__vmx_passthrough"})
"""Fields that no resource sets: they choose the target, or the form of the answer."""


SlotT = TypeVar("SlotT", bound=ModelSlot)


class ResourceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold what a resource does with a call.

    `model` answers, unless `routing` chooses another one; with `use_fallback`, the
    `fallback_models` follow in order. A caller may ask for one of the `secondary_models` by its
    index. `default_args` are fields of the request body where the caller states none. `capacity`
    applies only with `enforce_capacity`.
    """

    model: ModelSlot
    use_fallback: bool = False
    fallback_models: Annotated[tuple[ModelSlot, ...], msgspec.Meta(max_length=TARGETS_MAX - 1)] = ()
    secondary_models: Annotated[
        tuple[ModelSlot, ...], msgspec.Meta(max_length=SECONDARY_MODELS_MAX)
    ] = ()
    routing: RoutingConfig | None = None
    capacity: CapacityEntries = []
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


class ResourceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a new resource. The keys of `assign_api_keys` (ids) may use it."""

    organization_id: str
    project_id: str
    name: str
    config: ResourceConfig
    description: str | None = None
    assign_api_keys: tuple[str, ...] = ()


class ResourceChange(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a partial update of a resource. Unset fields stay as they are."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    config: ResourceConfig | msgspec.UnsetType = msgspec.UNSET
    assign_api_keys: tuple[str, ...] = ()


class ResourceFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Select resources of an organization; None does not restrict. `among` has the projects to
    which the caller is limited; empty for all."""

    organization_id: str
    project_id: str | None = None
    among: tuple[str, ...] = ()


class ResourceNotFoundError(HeadgateError):
    """There is no resource of this name or id in the project.

    List the resources with `headgate resources list` or `GET /api/resources`. A model can also be
    named as `credential/model`.
    """

    kind = Kind.MISSING
    code = "AI_RESOURCE_NOT_FOUND"


class SecondaryModelNotFoundError(HeadgateError):
    """The resource has no secondary model of the index that the request names.

    Send an index from 0 up to the number of its secondary models, less one.
    """

    kind = Kind.INVALID
    code = "COMPLETION_SECONDARY_MODEL_NOT_FOUND"


class InvalidResourceError(HeadgateError):
    """A field of the resource is invalid.

    Correct the field that the message names.
    """

    kind = Kind.INVALID
    code = "invalid_resource"


class InvalidOverridesError(HeadgateError):
    """The request's own changes of its resource do not make a resource.

    Correct the field that the message names, or leave the overrides out.
    """

    kind = Kind.INVALID
    code = "invalid_request"


class ResourceConflictError(HeadgateError):
    """The resource exists already, or was changed meanwhile.

    Choose another name, or read the resource again.
    """

    kind = Kind.CONFLICT
    code = "resource_conflict"


class CredentialInUseError(HeadgateError):
    """Resources send calls to this credential, so it is not deleted.

    Change or delete the resources that the message names first.
    """

    kind = Kind.CONFLICT
    code = "credential_in_use"


def list_slots(config: ResourceConfig) -> Iterator[tuple[str, ModelSlot]]:
    """Yield every model of a resource with its place, such as `fallback_models[0]`."""
    yield "model", config.model
    for name in ("fallback_models", "secondary_models"):
        for index, slot in enumerate(getattr(config, name)):
            yield f"{name}[{index}]", slot
    if config.routing is not None:
        for index, rule in enumerate(config.routing.conditions):
            if rule.then is not None:
                yield f"routing.conditions[{index}].then", rule.then


def uses_credential(config: ResourceConfig, credential_id: str) -> bool:
    """Return whether a stored resource may send calls to a credential."""
    return any(
        credential_id in (slot.credential_id, *(each.credential_id for each in slot.credentials))
        for _, slot in list_slots(config)
    )


def check_name(name: str) -> str:
    """Return the name of a resource without outer blanks. Raise `InvalidResourceError`."""
    stripped = name.strip()
    if not NAME.fullmatch(stripped):
        raise InvalidResourceError(f"{NAME_FORM}, not {name[:64]!r}.", param="name")
    return stripped


def check_capacity(entries: Sequence[CapacityEntry]) -> None:
    """Raise `InvalidResourceError` for a limit that contradicts itself."""
    found = find_invalid_limit(entries, of_credential=False)
    if found is not None:
        index, problem = found
        place = f"capacity[{index}]"
        raise InvalidResourceError(f"Invalid '{place}': {problem}", param=place)


def check_default_args(arguments: dict[str, Any]) -> None:
    """Raise `InvalidResourceError` for default arguments that no resource may set."""
    for name in arguments:
        # Some providers ignore the case of names.
        if name.casefold() in RESERVED_ARGS:
            place = f"default_args.{name}"
            message = f"Invalid '{place}': the request itself says that."
            raise InvalidResourceError(message, param=place)
    if len(msgspec.json.encode(arguments)) > DEFAULT_ARGS_BYTES_MAX:
        message = f"Invalid 'default_args': at most {DEFAULT_ARGS_BYTES_MAX} bytes of JSON."
        raise InvalidResourceError(message, param="default_args")


def name_credentials(config: ResourceConfig, names: Mapping[str, str]) -> ResourceConfig:
    """Return a stored resource with the names of its credentials beside their ids; `names` are by
    id."""
    routing = config.routing
    if routing is not None:
        rules = tuple(
            rule if rule.then is None else replace(rule, then=_name_slot(rule.then, names))
            for rule in routing.conditions
        )
        routing = replace(routing, conditions=rules)
    return replace(
        config,
        model=_name_slot(config.model, names),
        fallback_models=tuple(_name_slot(each, names) for each in config.fallback_models),
        secondary_models=tuple(_name_slot(each, names) for each in config.secondary_models),
        routing=routing,
    )


def _name_slot(slot: SlotT, names: Mapping[str, str]) -> SlotT:
    weighted = tuple(
        replace(each, credential_name=names.get(each.credential_id or ""))
        for each in slot.credentials
    )
    name = names.get(slot.credential_id or "")
    return replace(slot, credential_name=name, credentials=weighted)
