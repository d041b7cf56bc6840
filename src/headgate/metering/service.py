"""The read side of metering, its one write, and its retention."""

from __future__ import annotations

from headgate.metering.store import count, delete_before, find, insert, list_recent, total

__all__ = ["count", "delete_before", "find", "insert", "list_recent", "total"]
