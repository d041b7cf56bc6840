"""The read side of metering, its one write, and its retention."""

from __future__ import annotations

from headgate.metering.store import (
    count,
    count_before,
    delete_before,
    find,
    insert,
    list_recent,
    select_waits,
    total,
)

__all__ = [
    "count",
    "count_before",
    "delete_before",
    "find",
    "insert",
    "list_recent",
    "select_waits",
    "total",
]
