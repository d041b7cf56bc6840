"""`python -m rigs.scale`: many keys and credentials, measured against bars."""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headgate import settings
from headgate.audit.model import SYSTEM
from headgate.keys.service import KeyIndex
from headgate.main.application import Application, open_application
from rigs.scale.harness import LOCAL, Filled, Plan, fill, running

PAGES = (
    "/api/api-keys",
    "/api/api-keys?limit=500",
    "/api/api-keys?limit=100&offset=9000",
    "/api/api-keys?search=service%2012",
    "/api/api-keys?state=active&kind=live",
)
START_SECONDS_MAX = 2.0
LOAD_SECONDS_MAX = 0.5
PAGE_MS_MAX = 50.0


@dataclass
class Figure:
    """Show one measured number beside its bar; None has none."""

    name: str
    value: float
    unit: str
    count: int
    bar: float | None = None

    @property
    def is_met(self) -> bool:
        return self.bar is None or self.value <= self.bar

    def __str__(self) -> str:
        bar = "" if self.bar is None else f"  bar {self.bar:g}  {'' if self.is_met else 'MISSED'}"
        return f"{self.name:<52}{self.value:10.3f} {self.unit:<4} n={self.count}{bar}"


def time_each(work: Callable[[], object], count: int) -> list[float]:
    """Return the milliseconds of each of so many runs."""
    times: list[float] = []
    for _ in range(count):
        begin = time.perf_counter()
        work()
        times.append((time.perf_counter() - begin) * 1000)
    return times


def percentile(times: Sequence[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def measure_key_index(filled: Filled) -> list[Figure]:
    """Measure the key index alone: loading all keys, one changed key, and checking a token."""
    loaded = settings.load({"HEADGATE_EGRESS_ALLOW": LOCAL}, data=filled.data)
    application = open_application(loaded)
    try:
        return _measure_key_index(application, filled)
    finally:
        application.close()


def _measure_key_index(application: Application, filled: Filled) -> list[Figure]:
    database = application.database
    whole: list[float] = []
    key_index = KeyIndex(application.clock)
    for _ in range(5):
        key_index = KeyIndex(application.clock)
        with database.reading() as connection:
            whole += time_each(lambda key_index=key_index, c=connection: key_index.load(c), 1)
    one: list[float] = []
    for number in range(20):
        with database.transaction() as connection:
            [key, *_] = application.keys.list(connection)
            application.keys.update(connection, key, {"description": f"change {number}"}, by=SYSTEM)
        with database.reading() as connection:
            one += time_each(lambda c=connection: key_index.load(c), 1)
    checks = {
        "of all keys": [token.encode() for token in filled.tokens],
        "of one key, again and again": [filled.live_key.encode()] * len(filled.tokens),
    }
    figures = [
        Figure("key index: load all keys", max(whole) / 1000, "s", len(whole), LOAD_SECONDS_MAX),
        Figure("key index: load one changed key, median", statistics.median(one), "ms", len(one)),
    ]
    for name, tokens in checks.items():
        times = time_each(lambda tokens=tokens: [key_index.find(token) for token in tokens], 10)
        per_check = min(times) * 1000 / len(tokens)
        figures.append(Figure(f"key check, {name}", per_check, "us", len(times) * len(tokens)))
    return figures


def measure_server(filled: Filled, *, starts: int, pages: int) -> list[Figure]:
    """Measure a real server: the time until it is ready, and its list pages over HTTP."""
    ready: list[float] = []
    figures: list[Figure] = []
    for number in range(starts):
        with running(filled) as server:
            ready.append(server.ready_seconds)
            if number:
                continue
            for page in PAGES:
                server.get(page)
                times = [server.get(page)[0] * 1000 for _ in range(pages)]
                figures += [
                    Figure(f"{page} p50", percentile(times, 0.5), "ms", pages),
                    Figure(f"{page} p95", percentile(times, 0.95), "ms", pages, PAGE_MS_MAX),
                ]
    best = min(ready)
    return [
        Figure("start to ready, best", best, "s", starts, START_SECONDS_MAX),
        Figure("start to ready, worst", max(ready), "s", starts),
        *figures,
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if all bars are met, 1 if one is missed."""
    parser = argparse.ArgumentParser(prog="scale", description=__doc__)
    parser.add_argument("--keys", type=int, default=Plan.keys)
    parser.add_argument("--credentials", type=int, default=Plan.credentials)
    parser.add_argument("--pages", type=int, default=200, help="requests for each list page")
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="headgate-scale-"))
    try:
        filled = fill(folder, Plan(options.keys, options.credentials))
        figures = measure_key_index(filled)
        figures += measure_server(filled, starts=options.starts, pages=options.pages)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write("".join(f"{figure}\n" for figure in figures))
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
