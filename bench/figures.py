"""The arithmetic of the bench, free of I/O: windows, medians of same-round ratios, verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DIRECT = "direct"
NGINX = "nginx"
HEADGATE = "headgate"
MANAGED = "headgate-managed"
"""Headgate again: its calls are held for and paid from the wallet."""
LITELLM = "litellm"
TENSORZERO = "tensorzero"
BIFROST = "bifrost"
AGENTGATEWAY = "agentgateway"


@dataclass(frozen=True)
class Window:
    """Hold what the load program measured in one window; latencies in us, no CPU time without a
    gateway.
    """

    requests: int
    errors: int
    first_error: str
    events: int
    seconds: float
    p50: float
    p99: float
    p999: float
    first_chunk_p50: float
    cpu_seconds: float | None
    load_cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def gateway_busy_percent(self) -> float | None:
        """Return how much of its core the gateway used; below 95 the load was the limit."""
        return None if self.cpu_seconds is None else 100 * self.cpu_seconds / self.seconds

    @property
    def cpu_per_request(self) -> float | None:
        return _share(self.cpu_seconds, self.requests)

    @property
    def cpu_per_event(self) -> float | None:
        return _share(self.cpu_seconds, self.events)


Value = Callable[[Window], float | None]
Rounds = Mapping[str, Sequence[Window]]
"""The windows of each subject in one scenario, in the order of the rounds."""


def _share(cpu_seconds: float | None, count: int) -> float | None:
    return None if cpu_seconds is None or not count else cpu_seconds * 1e6 / count


def read_window(report: Mapping[str, Any], gateway: Sequence[int], load: Sequence[int]) -> Window:
    """Return a window from the load program's JSON; CPU is summed over the process ids given."""
    cpu: Mapping[str, int] = report["cpu"]
    latency: Mapping[str, float] = report["latency"]
    first_chunk: Mapping[str, float] = report["first_chunk"]

    def total(pids: Sequence[int]) -> float:
        return sum(cpu.get(str(pid), 0) for pid in pids) / 1e9

    return Window(
        requests=report["requests"],
        errors=report["errors"],
        first_error=report["first_error"],
        events=report["events"],
        seconds=report["window"] / 1e9,
        p50=latency.get("p50", 0) / 1e3,
        p99=latency.get("p99", 0) / 1e3,
        p999=latency.get("p999", 0) / 1e3,
        first_chunk_p50=first_chunk.get("p50", 0) / 1e3,
        cpu_seconds=total(gateway) if gateway else None,
        load_cpu_seconds=total(load),
    )


def median_of(windows: Sequence[Window], value: Value) -> float | None:
    values = [v for v in map(value, windows) if v is not None]
    return statistics.median(values) if values else None


def _same_round(
    rounds: Rounds, names: tuple[str, str], value: Value, join: Callable[[float, float], float]
) -> float | None:
    """Return the median of `join(first, second)` over the rounds: the machine's drift cancels."""
    first, second = (map(value, rounds.get(name, ())) for name in names)
    pairs = zip(first, second, strict=False)
    joined = [join(a, b) for a, b in pairs if a is not None and b is not None]
    return statistics.median(joined) if joined else None


def ratio(rounds: Rounds, over: str, under: str, value: Value) -> float | None:
    """Return the median of same-round `over` / `under`; None when one of them has no windows."""
    return _same_round(rounds, (over, under), value, lambda a, b: a / b if b else 0.0)


def difference(rounds: Rounds, minuend: str, subtrahend: str, value: Value) -> float | None:
    """Return the median of same-round `minuend` - `subtrahend`; None when one has no windows."""
    return _same_round(rounds, (minuend, subtrahend), value, lambda a, b: a - b)


@dataclass(frozen=True)
class Bar:
    """Set a figure to reach: the least (or, when `low` is good, the most) that passes."""

    name: str
    unit: str
    must: float
    ambitious: float
    low: bool = False

    def reaches(self, value: float, bar: float) -> bool:
        return value <= bar if self.low else value >= bar


@dataclass(frozen=True)
class Figure:
    """Hold what this run measured against a bar; None: not measured."""

    bar: Bar
    value: float | None

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.bar.reaches(self.value, self.bar.ambitious):
            return "ambitious"
        return "pass" if self.bar.reaches(self.value, self.bar.must) else "MISS"


CPU_AGAINST_NGINX = Bar("CPU per call: nginx / Headgate, 32 connections", "", 0.30, 0.45)
RATE_AGAINST_LITELLM = Bar("throughput against LiteLLM, 32 connections", "x", 200, 350)
RATE_AGAINST_TENSORZERO = Bar("throughput against TensorZero, 32 connections", "x", 3, 5)
ADDED_P50 = Bar("added latency p50, 1 connection", "us", 150, 80, low=True)
ADDED_P99 = Bar("added latency p99, 1 connection", "us", 350, 140, low=True)
MANAGED_AGAINST_OWN = Bar("throughput of managed calls against own-key calls", "", 0.6, 0.8)
STREAM_AGAINST_NGINX = Bar("CPU per event: nginx / Headgate, 512 streams", "", 0.35, 0.6)
FIRST_CHUNK = Bar("first chunk added p50, 512 streams", "us", 250, 110, low=True)
MEMORY_IDLE = Bar("resident memory idle", "MiB", 90, 60, low=True)
MEMORY_LOAD = Bar("resident memory under load", "MiB", 130, 90, low=True)
MEMORY_GROWTH = Bar("memory after 200,000 calls over 20,000", "MiB", 10, 10, low=True)
START_FIRST = Bar("ready after the first start", "s", 1.5, 1.5, low=True)
START_AGAIN = Bar("ready after a later start", "s", 1.5, 1.5, low=True)
