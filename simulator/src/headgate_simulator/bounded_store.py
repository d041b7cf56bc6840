"""Bounded memory for stored objects: the newest object replaces the oldest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class BoundedStore(Generic[T]):
    """Hold objects by id, oldest first: at most `objects_max`, and at most `bytes_max` by
    `measure`. An object larger than `bytes_max` is not stored.
    """

    def __init__(self, objects_max: int, *, bytes_max: int, measure: Callable[[T], int]) -> None:
        self._stored: dict[str, tuple[T, int]] = {}
        self._objects_max = objects_max
        self._bytes_max = bytes_max
        self._measure = measure
        self._bytes = 0
        # Never decreases: ids of created objects are derived from it.
        self.count = 0

    def put(self, identity: str, thing: T) -> None:
        """Store the object, or replace the one with its id."""
        self.drop(identity)
        size = self._measure(thing)
        self._stored[identity] = (thing, size)
        self._bytes += size
        self.count += 1
        while len(self._stored) > self._objects_max or self._bytes > self._bytes_max:
            self.drop(next(iter(self._stored)))

    def get(self, identity: str) -> T | None:
        stored = self._stored.get(identity)
        return stored[0] if stored else None

    def drop(self, identity: str) -> T | None:
        """Remove the object and return it, or None."""
        thing, size = self._stored.pop(identity, (None, 0))
        self._bytes -= size
        return thing

    def all(self) -> list[T]:
        """Return every object, oldest first."""
        return [thing for thing, _ in self._stored.values()]


def paginate(items: Iterable[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    """Return one page of a list as OpenAI does; the query has `limit`, `after`, `before` and
    `order` (default desc).
    """
    rows = list(items)
    if query.get("order", "desc") == "desc":
        rows.reverse()
    ids = [row["id"] for row in rows]
    if (after := query.get("after")) in ids:
        rows = rows[ids.index(after) + 1 :]
    if (before := query.get("before")) in ids:
        rows = rows[: ids.index(before)]
    limit = int(query.get("limit", "20")) if query.get("limit", "20").isdigit() else 20
    shown = rows[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(rows) > limit,
    }
