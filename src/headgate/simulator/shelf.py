"""Bounded memory for what callers store; the oldest object makes room for the newest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Shelf(Generic[T]):
    """Objects by id, in order of arrival, at most `objects_max` and `bytes_max` (by `measure`)."""

    def __init__(
        self, objects_max: int, *, bytes_max: int = 0, measure: Callable[[T], int] | None = None
    ) -> None:
        self._objects: dict[str, T] = {}
        self._objects_max = objects_max
        self._bytes_max = bytes_max
        self._measure = measure or _weigh_nothing
        self._bytes = 0
        self.count = 0

    def put(self, identity: str, thing: T) -> None:
        """Keep (or replace) one object."""
        self.drop(identity)
        self._objects[identity] = thing
        self._bytes += self._measure(thing)
        self.count += 1
        while len(self._objects) > self._objects_max or self._bytes > self._bytes_max:
            self.drop(next(iter(self._objects)))

    def get(self, identity: str) -> T | None:
        """The object, or None."""
        return self._objects.get(identity)

    def drop(self, identity: str) -> T | None:
        """Forget the object; answers with it, or None."""
        thing = self._objects.pop(identity, None)
        if thing is not None:
            self._bytes -= self._measure(thing)
        return thing

    def all(self) -> list[T]:
        """Every object, oldest first."""
        return list(self._objects.values())


def _weigh_nothing(_: object) -> int:
    return 0


def page(items: Iterable[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    """One page of a list, as OpenAI pages: `limit`, `after`, `before`, `order` (default desc)."""
    rows = list(items)
    if query.get("order", "desc") == "desc":
        rows.reverse()
    ids = [row["id"] for row in rows]
    if (after := query.get("after")) in ids:
        rows = rows[ids.index(after) + 1 :]
    if (before := query.get("before")) in ids:
        rows = rows[: ids.index(before)]
    limit = int(query.get("limit", "20")) if query.get("limit", "20").isdigit() else 20
    kept = rows[:limit]
    return {
        "object": "list",
        "data": kept,
        "first_id": kept[0]["id"] if kept else None,
        "last_id": kept[-1]["id"] if kept else None,
        "has_more": len(rows) > limit,
    }
