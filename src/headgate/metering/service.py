"""The read side of metering, its one write, and its retention."""

from __future__ import annotations

from headgate.metering.model import Outcomes
from headgate.metering.store import (
    count,
    count_before,
    delete_before,
    find,
    insert,
    list_recent,
    select_latency_samples,
    sum_outcomes,
    total,
)

__all__ = [
    "Outcomes",
    "count",
    "count_before",
    "delete_before",
    "find",
    "insert",
    "list_recent",
    "select_latency_samples",
    "sum_outcomes",
    "total",
]
