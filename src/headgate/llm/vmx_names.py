"""Translate the names of JSON fields between VM-X and Headgate: `maxRetries` is `max_retries`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

OWN_NAMES = {"connectionId": "credential_id", "connectionName": "credential_name"}
"""Fields that have another word here, beside another spelling."""
_VMX_NAMES = {own: theirs for theirs, own in OWN_NAMES.items()}
OPAQUE = frozenset({"defaultArgs", "default_args"})
"""Fields whose values are for the provider, or the owner's own, and stay as they are."""
_HUMP = re.compile(r"(?<=[a-z0-9])[A-Z]")
_SNAKE = re.compile(r"_([a-z0-9])")


def to_own_names(value: Any) -> Any:
    """Return a JSON value in the names of Headgate."""
    return _rename(value, to_own_name)


def to_vmx_names(value: Any) -> Any:
    """Return a JSON value in the names of VM-X."""
    return _rename(value, to_vmx_name)


def to_own_name(name: str) -> str:
    """Return the name of one field in the spelling of Headgate."""
    return OWN_NAMES.get(name) or _HUMP.sub(lambda match: f"_{match[0].lower()}", name)


def to_vmx_name(name: str) -> str:
    """Return the name of one field in the spelling of VM-X."""
    return _VMX_NAMES.get(name) or _SNAKE.sub(lambda match: match[1].upper(), name)


def _rename(value: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {
            rename(name): each if name in OPAQUE else _rename(each, rename)
            for name, each in fields.items()
        }
    if isinstance(value, list | tuple):
        return [_rename(each, rename) for each in cast("list[Any]", value)]
    return value
