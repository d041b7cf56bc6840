"""Change a resource for one request: merge what the request says into what is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from headgate.resources.model.resource import (
    InvalidOverridesError,
    InvalidResourceError,
    ResourceConfig,
    SecondaryModelNotFoundError,
    check_capacity,
    check_default_args,
)
from headgate.resources.model.slot import ModelSlot

VMX_NAMES = {"credential_id": "connectionId", "credential_name": "connectionName"}
"""Names of VM-X that are more than another spelling."""
IGNORED_FIELDS = frozenset({"name", "description", "assign_api_keys"})
"""Fields of a stored resource that change nothing about one call."""
LIMITS = frozenset({"capacity", "enforce_capacity", "enforceCapacity"})
"""Fields that a request changes of no stored resource: whom a limit refuses must not lift it."""
OVERRIDES = "vmx.resourceConfigOverrides"
"""The place of the overrides in a request."""
DEPTH_MAX = 32
_LOWER = re.compile(r"_([a-z0-9])")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_PLACE = re.compile(r" - at `(?:key in )?\$\.?(.*)`\Z", re.DOTALL)


def merge(stored: Mapping[str, Any], given: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return JSON objects merged at every depth; what is given wins. Lists are replaced whole.
    Raise `InvalidOverridesError` for an absurd depth."""
    if depth > DEPTH_MAX:
        raise InvalidOverridesError(f"Overrides are nested at most {DEPTH_MAX} deep.")
    merged = dict(stored)
    for name, value in given.items():
        before = merged.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            inner = cast("Mapping[str, Any]", value)
            merged[name] = merge(cast("Mapping[str, Any]", before), inner, depth + 1)
        else:
            merged[name] = value
    return merged


def override(stored: ResourceConfig | None, overrides: Mapping[str, Any]) -> ResourceConfig:
    """Return the resource of one request: the stored one with these changes, or without a stored
    one a whole one. The names may be those of VM-X.

    A slot that names a credential loses the one that was stored there. Raise
    `InvalidOverridesError`, which names the place of what is wrong.
    """
    ignored = IGNORED_FIELDS if stored is None else IGNORED_FIELDS | LIMITS
    given = {name: value for name, value in overrides.items() if name not in ignored}
    before: dict[str, Any] = {} if stored is None else msgspec.to_builtins(stored)
    _forget_credential(before, given)
    merged = merge(before, given)
    if "model" not in merged:
        raise InvalidOverridesError(
            "There is no stored resource of this name, and the overrides have no `model`.",
            param=f"{OVERRIDES}.model",
        )
    try:
        config = msgspec.convert(merged, ResourceConfig)
        check_default_args(config.default_args)
        check_capacity(config.capacity)
    except msgspec.ValidationError as error:
        raise explain(error) from None
    except InvalidResourceError as error:
        place = f"{OVERRIDES}.{name_place(error.param or '')}"
        message = error.message.replace(error.param or place, place)
        raise InvalidOverridesError(message, param=place, should_retry=False) from None
    return config


def _forget_credential(before: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Drop the stored credential of the first model where the request names another one: the
    stored id would win over a name."""
    stored, wanted = before.get("model"), given.get("model")
    if not (isinstance(stored, dict) and isinstance(wanted, Mapping)):
        return
    if {"credential_id", "credential_name", "credentials"} & cast("Any", wanted).keys():
        for name in ("credential_id", "credential_name", "credentials"):
            cast("dict[str, Any]", stored).pop(name, None)
        if "provider" not in wanted:
            cast("dict[str, Any]", stored).pop("provider", None)


def explain(error: msgspec.ValidationError) -> InvalidOverridesError:
    """Return the error for a message of the decoder, with the place in the names of VM-X."""
    text = str(error)
    found = _PLACE.search(text)
    place = "" if found is None else "." + name_place(found[1])
    reason = text if found is None else text[: found.start()]
    reason = _UNKNOWN.sub(lambda unknown: f"unknown field `{name_place(unknown[1])}`", reason)
    param = f"{OVERRIDES}{place}"
    message = f"Invalid '{param}': {reason[0].lower()}{reason[1:]}."
    return InvalidOverridesError(message, param=param, should_retry=False)


def name_place(place: str) -> str:
    """Return a place such as `fallback_models[0]` in the names of VM-X."""
    parts = [VMX_NAMES.get(part, part) for part in place.split(".")]
    return _LOWER.sub(lambda found: found[1].upper(), ".".join(parts))


def choose_secondary(models: Sequence[ModelSlot], index: int) -> ModelSlot:
    """Return one of the secondary models by its index from 0. Raise
    `SecondaryModelNotFoundError`."""
    if not 0 <= index < len(models):
        count = f"{len(models)} secondary models" if len(models) != 1 else "1 secondary model"
        raise SecondaryModelNotFoundError(
            f"The resource has {count}, counted from 0, and the request asks for {index}.",
            param="vmx.secondaryModelIndex",
            should_retry=False,
        )
    return models[index]
