"""Make the types of operations in the names of VM-X from those in the names of Headgate.

Only the names differ, so that there is no second model that could go its own way.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

import msgspec

from headgate.llm.vmx_names import to_own_names, to_vmx_name

PREFIX = "Ai"
"""How the names of all made types begin."""
_NAMED = re.compile(r"`([a-z0-9_.]+)`")
"""A field that a text names."""
_MADE: dict[type[msgspec.Struct], Any] = {}
"""The types that others consist of, so that each is made once."""


def make_vmx_struct(
    kind: type[msgspec.Struct],
    *,
    names: Mapping[str, str] | None = None,
    more: Sequence[tuple[str, Any, Any]] = (),
) -> type[msgspec.Struct]:
    """Return a type like this one, and like all types that it consists of, whose fields have the
    names of VM-X.

    A field with a default takes null, too. `names` are fields with a name of their own; an empty
    one leaves the field out. `more` are further fields, with name, type and default.
    """
    return _make(kind, names or {}, more)


def read_vmx_body(body: msgspec.Struct, nulls: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the fields that a body gives, in the names of Headgate. A null is left out, as if it
    were not given; one of the fields in `nulls` means the value there."""
    fields = to_own_names(msgspec.to_builtins(body))
    given = {name: value for name, value in fields.items() if value is not None}
    chosen = {name: value for name, value in (nulls or {}).items() if name in fields}
    return {**chosen, **{name: _drop_nulls(name, value) for name, value in given.items()}}


def _drop_nulls(name: str, value: Any) -> Any:
    if name == "default_args":
        return value
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {key: _drop_nulls(key, each) for key, each in fields.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_drop_nulls("", each) for each in cast("list[Any]", value)]
    return value


def _make(
    kind: type[msgspec.Struct],
    names: Mapping[str, str],
    more: Sequence[tuple[str, Any, Any]] = (),
) -> type[msgspec.Struct]:
    name = PREFIX + kind.__name__
    hints = typing.get_type_hints(kind, include_extras=True)
    fields: list[Any] = [*more]
    for each in msgspec.structs.fields(kind):
        if names.get(each.name) == "":
            continue
        hint = _translate(hints[each.name])
        if each.default_factory is not msgspec.NODEFAULT:
            default: Any = msgspec.field(default_factory=each.default_factory)
        else:
            default = each.default
        if default is msgspec.NODEFAULT:
            fields.append((each.name, hint))
        else:
            fields.append((each.name, typing.Union[hint, None], default))  # noqa: UP007 (see below)
    config = kind.__struct_config__
    struct = msgspec.defstruct(
        name,
        fields,
        rename=lambda field: names.get(field) or to_vmx_name(field),
        frozen=True,
        forbid_unknown_fields=True,
        kw_only=True,
        tag_field=config.tag_field,
        tag=config.tag,
        module=__name__,
        namespace={"__doc__": _NAMED.sub(_rename_named, kind.__doc__ or "")},
    )
    globals()[name] = struct
    return struct


def _rename_named(match: re.Match[str]) -> str:
    return f"`{'.'.join(map(to_vmx_name, match[1].split('.')))}`"


def _translate(hint: Any) -> Any:
    """Return a type hint with the made types in the place of the given ones."""
    if _is_struct(hint):
        return _translate_struct(hint)
    origin: Any = typing.get_origin(hint)
    parts: tuple[Any, ...] = typing.get_args(hint)
    if origin is None:
        return hint
    if origin is Annotated:
        return Annotated[(_translate(parts[0]), *parts[1:])]
    translated = tuple(map(_translate, parts))
    if origin in (typing.Union, types.UnionType):
        return typing.Union[translated]  # noqa: UP007 (a string, which names a type, has no `|`)
    return origin[translated]


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _translate_struct(kind: type[msgspec.Struct]) -> Any:
    """Return the made type in the place of one that others consist of; its name while it is
    made, since it may contain itself."""
    if kind not in _MADE:
        _MADE[kind] = PREFIX + kind.__name__
        _MADE[kind] = _make(kind, {})
    return _MADE[kind]
