"""Bounded memory for what callers store; the oldest object makes room for the newest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Shelf(Generic[T]):
    """Objects by id, in order of arrival: at most `objects_max`, weighing at most `bytes_max`
    by `measure`. A thing too heavy for the whole shelf is not kept.
    """

    def __init__(self, objects_max: int, *, bytes_max: int, measure: Callable[[T], int]) -> None:
        self._kept: dict[str, tuple[T, int]] = {}
        self._objects_max = objects_max
        self._bytes_max = bytes_max
        self._measure = measure
        self._bytes = 0
        self.count = 0

    def put(self, identity: str, thing: T) -> None:
        """Keep (or replace) one object."""
        self.drop(identity)
        size = self._measure(thing)
        self._kept[identity] = (thing, size)
        self._bytes += size
        self.count += 1
        while len(self._kept) > self._objects_max or self._bytes > self._bytes_max:
            self.drop(next(iter(self._kept)))

    def get(self, identity: str) -> T | None:
        """The object, or None."""
        kept = self._kept.get(identity)
        return kept[0] if kept else None

    def drop(self, identity: str) -> T | None:
        """Forget the object; answers with it, or None."""
        thing, size = self._kept.pop(identity, (None, 0))
        self._bytes -= size
        return thing

    def all(self) -> list[T]:
        """Every object, oldest first."""
        return [thing for thing, _ in self._kept.values()]


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
