"""Rows of usage as a flat table, for exports and the command line."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from headgate.kit.money import NANO_PER_DOLLAR
from headgate.kit.time_zones import find_zone
from headgate.metering.model.histogram import find_percentiles
from headgate.metering.model.receipts import MICROSECONDS
from headgate.metering.model.usage import TOKENS, Group, Measures
from headgate.metering.model.zones import Period

TIMES = ("start", "end")
COUNTS = ("requests", "completed", "errors", "cache_hits", *TOKENS)
AMOUNTS = {"cost": "cost_nano", "wallet_debit": "wallet_nano", "credits": "credit_nano"}
"""Columns of US dollars, with the sums that they show."""
PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
LATENCIES = ("average_ms", *PERCENTILES)


def list_columns(group_by: Sequence[str]) -> list[str]:
    """Return the names of the columns for a grouping."""
    return [*TIMES, *group_by, *COUNTS, *AMOUNTS, *LATENCIES]


def to_cells(
    zone: str, group_by: Sequence[str], period: Period, group: Group, measures: Measures
) -> list[Any]:
    """Return a row of the table. Times are in the zone, amounts exact, and latencies None without
    completed calls."""
    values = [
        bool(value) if name == "managed" else value
        for name, value in zip(group_by, group, strict=True)
    ]
    return [
        to_local_time(zone, period.start),
        to_local_time(zone, period.end),
        *values,
        *(getattr(measures, name) for name in COUNTS),
        *(to_dollars(getattr(measures, name)) for name in AMOUNTS.values()),
        *find_latencies(measures).values(),
    ]


def find_latencies(measures: Measures) -> dict[str, float | None]:
    """Return average and percentiles in milliseconds, None without completed calls."""
    count = measures.latency_count
    average = measures.latency_microseconds / count if count else None
    found = find_percentiles(measures.histogram, tuple(PERCENTILES.values()))
    return {
        name: None if value is None else round(value / 1_000, 3)
        for name, value in zip(LATENCIES, (average, *found), strict=True)
    }


def to_local_time(zone: str, at: int) -> datetime.datetime:
    """Convert microseconds since 1970 to a time of the zone, with its offset."""
    return datetime.datetime.fromtimestamp(at / MICROSECONDS, find_zone(zone))


def to_dollars(nano: int) -> Decimal:
    return Decimal(nano) / NANO_PER_DOLLAR
