"""Make samples of the official SDKs' types: every field and every variant, one at a time.

Each sample has the required fields and one more thing that is told apart from all other samples, at
`focus`. Texts and numbers in a sample are all different, so that they can be found again.
"""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Union

MAPPINGS = (dict, Mapping)
VARIANTS_MAX = 12


class Sample(NamedTuple):
    """Hold a value of a type, and the place in it that this sample is about."""

    value: Any
    focus: str = ""


class Leaf(NamedTuple):
    """Hold one plain value of a sample, with its place."""

    place: str
    value: Any


class SampleMaker:
    """Make samples. `fixed` has the values of fields, by `Type.field` or by the field's name."""

    def __init__(self, fixed: Mapping[str, Iterable[Any]]) -> None:
        self._fixed = fixed
        self._numbers = itertools.count(100)

    def make_all(self, kind: Any, inside: tuple[Any, ...] = ()) -> Iterator[Sample]:
        """Yield samples of a type; the first one is the plainest."""
        kind = _unwrap(kind)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if (fields := _read_fields(kind)) is not None:
            # A type within itself is sampled once: the outer one has the others.
            yield from self._make_objects(kind, fields, inside)
        elif origin in (Union, types.UnionType):
            for each in arguments:
                if each is not type(None):
                    yield from self.make_all(each, inside)
        elif origin is Literal:
            yield from map(Sample, arguments[:VARIANTS_MAX])
        elif origin in MAPPINGS:
            for each in self.make_all(arguments[1], inside):
                yield Sample({"key": each.value}, _join("key", each.focus))
        elif origin is not None and arguments:
            for each in self.make_all(arguments[0], inside):
                yield Sample([each.value], _join("0", each.focus))
        else:
            yield Sample(self._make_plain(kind))

    def _make_objects(
        self, kind: Any, fields: Mapping[str, tuple[Any, bool]], inside: tuple[Any, ...]
    ) -> Iterator[Sample]:
        required = {
            name: self._make_field(kind, name, each, inside)[0].value
            for name, (each, is_required) in fields.items()
            if is_required
        }
        yield Sample(required)
        if kind in inside:
            return
        for name, (each, is_required) in fields.items():
            samples = self._make_field(kind, name, each, (*inside, kind))
            for sample in samples[1:] if is_required else samples:
                # Fresh values, since samples share the required ones.
                yield Sample({**required, name: sample.value}, _join(name, sample.focus))

    def _make_field(self, kind: Any, name: str, each: Any, inside: tuple[Any, ...]) -> list[Sample]:
        for key in (f"{kind.__name__}.{name}", name):
            if key in self._fixed:
                return [Sample(value) for value in self._fixed[key]]
        return list(self.make_all(each, inside))

    def _make_plain(self, kind: Any) -> Any:
        number = next(self._numbers)
        if kind is bool:
            return True
        if kind is int:
            return number
        if kind is float:
            return number / 1_000
        if kind is object:
            return {"anything": f"text-{number}-end"}
        return f"text-{number}-end"


def list_leaves(value: Any, place: str = "") -> Iterator[Leaf]:
    """Yield all plain values of a sample, with their places (`input.0.role`)."""
    if isinstance(value, dict):
        for name, each in typing.cast("dict[str, Any]", value).items():
            yield from list_leaves(each, _join(place, name))
    elif isinstance(value, list):
        for number, each in enumerate(typing.cast("list[Any]", value)):
            yield from list_leaves(each, _join(place, str(number)))
    else:
        yield Leaf(place, value)


def replace_leaf(value: Any, place: str, new: Any) -> Any:
    """Return a copy with another plain value at a place."""
    name, _, rest = place.partition(".")
    if isinstance(value, list):
        elements = list(typing.cast("list[Any]", value))
        elements[int(name)] = replace_leaf(elements[int(name)], rest, new) if rest else new
        return elements
    fields = dict(typing.cast("dict[str, Any]", value))
    fields[name] = replace_leaf(fields[name], rest, new) if rest else new
    return fields


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place and name else place or name


def _unwrap(kind: Any) -> Any:
    """Return a type without `Required` and `Annotated`."""
    while str(typing.get_origin(kind)).endswith(("Required", "Annotated")):
        kind = typing.get_args(kind)[0]
    if hasattr(kind, "__metadata__"):
        kind = typing.get_args(kind)[0]
    return kind


def _read_fields(kind: Any) -> Mapping[str, tuple[Any, bool]] | None:
    """Return the fields of a `TypedDict` or a model with whether they are required."""
    if hasattr(kind, "__required_keys__"):
        hints = typing.get_type_hints(kind, include_extras=True)
        return {name: (each, _is_required(each)) for name, each in hints.items()}
    if hasattr(kind, "model_fields"):
        return {
            (each.alias or name): (each.annotation, each.is_required())
            for name, each in kind.model_fields.items()
        }
    return None


def _is_required(kind: Any) -> bool:
    origin = str(typing.get_origin(kind))
    return origin.endswith("Required") and not origin.endswith("NotRequired")
