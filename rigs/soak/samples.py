"""The measurements of a running server, and the verdict over a soak's samples."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
from prometheus_client.parser import text_string_to_metric_families

MEBIBYTE = 2**20
COUNTS = {
    "descriptors": "process_open_fds",
    "tasks": "headgate_tasks",
    "threads": "headgate_threads",
    "client_connections": "headgate_connections",
    "provider_connections": "headgate_provider_connections",
    "database_connections": "headgate_database_connections",
}
"""What must return to its first value, with its metric."""
COUNT_SLACK = 5
SLOPE_MAX = 1.0
GROWTH_MAX = 1.2
LAG_SECONDS_MAX = 0.05
LAG_SHARE = 0.99
LAG = "headgate_event_loop_lag_seconds"


@dataclass(frozen=True)
class Sample:
    """Hold one measurement; memory in MiB, `lag` cumulative counts by their bound in seconds."""

    calls: int
    at: float
    resident: float
    proportional: float
    unique: float
    counts: dict[str, int]
    recorded: int
    """Receipts, by the server's own counter."""
    database_bytes: int
    wal_bytes: int
    written_bytes: int
    cpu_seconds: float
    lag: dict[float, float]


def take(pid: int, exposition: str, calls: int) -> Sample:
    """Read a sample from the text of /metrics, and from /proc as far as permitted."""
    values: dict[str, float] = {}
    lag: dict[float, float] = {}
    for family in text_string_to_metric_families(exposition):
        for each in family.samples:
            if each.name == f"{LAG}_bucket":
                lag[float(each.labels["le"])] = each.value
            values[each.name] = values.get(each.name, 0.0) + each.value
    proportional, unique = _read_shares(pid)
    return Sample(
        calls=calls,
        at=time.monotonic(),
        resident=values["process_resident_memory_bytes"] / MEBIBYTE,
        proportional=proportional,
        unique=unique,
        counts={name: int(values[metric]) for name, metric in COUNTS.items()},
        recorded=int(values.get("headgate_calls_total", 0)),
        database_bytes=int(values["headgate_database_bytes"]),
        wal_bytes=int(values["headgate_database_wal_bytes"]),
        written_bytes=_read_written(pid),
        cpu_seconds=values["process_cpu_seconds_total"],
        lag=lag,
    )


def _read_shares(pid: int) -> tuple[float, float]:
    """Return PSS and USS; 0 where only root may read them."""
    try:
        memory = psutil.Process(pid).memory_full_info()
    except psutil.AccessDenied:
        return 0.0, 0.0
    return memory.pss / MEBIBYTE, memory.uss / MEBIBYTE


def _read_written(pid: int) -> int:
    try:
        return int(psutil.Process(pid).io_counters().write_chars)
    except psutil.AccessDenied:
        return 0


def slope(samples: Sequence[Sample]) -> float:
    """Return the growth of the resident memory in MiB per 100,000 calls, by least squares."""
    if len(samples) < 2:
        return 0.0
    fit = statistics.linear_regression([s.calls for s in samples], [s.resident for s in samples])
    return fit.slope * 100_000


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values lies; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def lag_quantile(first: Sample, last: Sample, share: float) -> float:
    """Return the bound in seconds that this share of the beats between two samples stays below."""
    counts = {bound: last.lag[bound] - first.lag.get(bound, 0.0) for bound in sorted(last.lag)}
    total = max(counts.values(), default=0.0)
    return next((bound for bound, count in counts.items() if count >= share * total), 0.0)


@dataclass(frozen=True)
class Finding:
    """Show one figure with its bar."""

    name: str
    shown: str
    bar: str
    passes: bool


def judge(
    idle: Sample, loaded: Sequence[Sample], end: Sample, *, slope_max: float
) -> list[Finding]:
    """Compare `idle` (after the warm-up) with `end` (after the last call), both without
    connections.
    """
    found = slope(loaded)
    ratio = end.resident / idle.resident
    late = lag_quantile(idle, end, LAG_SHARE)
    findings = [
        Finding(
            "memory per 100,000 calls",
            f"{found:+.2f} MiB",
            f"<= {slope_max:g} MiB",
            found <= slope_max,
        ),
        Finding(
            "memory at the end",
            f"{end.resident:.1f} MiB, {ratio:.2f} x",
            f"<= {GROWTH_MAX} x",
            ratio <= GROWTH_MAX,
        ),
        Finding(
            "event loop lag, p99",
            f"<= {late * 1000:g} ms",
            f"<= {LAG_SECONDS_MAX * 1000:g} ms",
            late <= LAG_SECONDS_MAX,
        ),
    ]
    for name, before in idle.counts.items():
        after = end.counts[name]
        passes = abs(after - before) <= COUNT_SLACK
        shown = f"{before} -> {after}"
        findings.append(Finding(name.replace("_", " "), shown, f"+-{COUNT_SLACK}", passes))
    return findings
