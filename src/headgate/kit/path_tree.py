"""Find what belongs to a path whose segments are literals or parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

Value = TypeVar("Value")

REST = "{rest}"


class PathTree(Generic[Value]):
    """Map paths to values. Literal segments win over `{name}`, and that over a last `{rest}`."""

    def __init__(self) -> None:
        self._literals: dict[str, PathTree[Value]] = {}
        self._parameter: PathTree[Value] | None = None
        self._rest: Value | None = None
        self._value: Value | None = None

    def setdefault(self, path: str, value: Value) -> Value:
        """Return the value of a path pattern, after setting it where there was none."""
        *segments, last = path.split("/")
        node = self
        for segment in segments if last == REST else (*segments, last):
            node = node._enter(segment)
        if last == REST:
            node._rest = value if node._rest is None else node._rest
            return node._rest
        node._value = value if node._value is None else node._value
        return node._value

    def find(self, segments: Sequence[str], index: int = 0) -> Value | None:
        """Return the value of the most literal pattern that fits. An empty segment fits only
        `{rest}`, or an empty one."""
        if index == len(segments):
            return self._value
        segment = segments[index]
        child = self._literals.get(segment)
        found = None if child is None else child.find(segments, index + 1)
        if found is None and self._parameter is not None and segment:
            found = self._parameter.find(segments, index + 1)
        return self._rest if found is None else found

    def _enter(self, segment: str) -> PathTree[Value]:
        if not segment.startswith("{"):
            return self._literals.setdefault(segment, PathTree())
        if self._parameter is None:
            self._parameter = PathTree()
        return self._parameter
