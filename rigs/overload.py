"""`python -m rigs.overload`: four times as many calls as one core can carry, from one key, while
another key's few calls must still be answered.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine, measure, report, subjects, traffic
from bench.figures import Bar, Figure

ROOT = Path(__file__).resolve().parent.parent
PEAK_CONNECTIONS = 32
FLOOD_CONNECTIONS = 1024
FLOOD_FACTOR = 4
SMALL_CONNECTIONS = 4
SMALL_PACE_SECONDS = 0.05
SECONDS = 60.0
POLL_SECONDS = 0.05
SHORT_SHARE = 1 / 6
"""The share of the flood's length that the windows before and after it have."""

GOODPUT = Bar("R4 answered calls a second, flood / peak", "", 0.8, 0.95)
ADMITTED = Bar("R4 p99 of admitted calls, flood / peak", "x", 2, 1.5, low=True)
REFUSED = Bar("R4 p99 of a refusal", "ms", 50, 20, low=True)
RECOVERED = Bar("R4 answered calls a second, after / before", "", 0.95, 1)
OTHERS = Bar("R5 calls of the other key that were answered", "%", 99.9, 100)
OTHERS_LATE = Bar("R5 p99 of the other key, flood / peak", "x", 1.5, 1.2, low=True)


@dataclass(frozen=True)
class WindowResult:
    """Hold what the load program measured of one key in one window; milliseconds."""

    rate: float
    answered: int
    refused: int
    errors: int
    first_error: str
    p99: float
    refusal_p99: float

    @classmethod
    def read(cls, answer: dict[str, Any]) -> WindowResult:
        latency, refusal = answer["latency"], answer["refusal"]
        return cls(
            rate=answer["requests"] * 1e9 / answer["window"],
            answered=answer["requests"],
            refused=refusal["count"],
            errors=answer["errors"],
            first_error=answer["first_error"],
            p99=latency.get("p99", 0) / 1e6,
            refusal_p99=refusal.get("p99", 0) / 1e6,
        )


@dataclass(frozen=True)
class Load:
    """Describe one key's calls: how many connections, each at most one call per `pace_seconds`."""

    subject: subjects.Subject
    connections: int
    pace_seconds: float = 0.0

    def command(self, harness: measure.BenchHarness, seconds: float) -> list[str]:
        command = harness.command(self.subject, traffic.SMALL, self.connections)
        return [
            *command,
            *("--seconds", str(seconds), "--warmup", "1", "--refusals"),
            *("--pace", str(int(self.pace_seconds * 1e6))),
        ]


def run_together(harness: measure.BenchHarness, seconds: float, *loads: Load) -> list[WindowResult]:
    """Run all loads at the same time, on the core that is not the gateway's."""
    running = [
        machine.run_pinned(load.command(harness, seconds), machine.LOAD_CORE) for load in loads
    ]
    outputs = [process.communicate()[0] for process in running]
    return [WindowResult.read(json.loads(output)) for output in outputs]


@dataclass(frozen=True)
class OverloadResult:
    """Hold the windows before, during and after the flood, for the busy key and the other one."""

    peak: WindowResult
    other_at_peak: WindowResult
    flood: WindowResult
    other_in_flood: WindowResult
    after: WindowResult

    def judge(self) -> list[Figure]:
        other = self.other_in_flood
        wanted = other.answered + other.refused + other.errors
        return [
            Figure(GOODPUT, self.flood.rate / self.peak.rate),
            Figure(ADMITTED, self.flood.p99 / self.peak.p99),
            Figure(REFUSED, self.flood.refusal_p99),
            Figure(RECOVERED, self.after.rate / self.peak.rate),
            Figure(OTHERS, 100 * other.answered / wanted),
            Figure(OTHERS_LATE, other.p99 / self.other_at_peak.p99),
        ]

    def describe(self) -> Generator[str]:
        for name, seen in vars(self).items():
            yield (
                f"{name.replace('_', ' '):<15} {seen.rate:>8,.0f} answered/s  p99 {seen.p99:>7.1f} "
                f"ms  refused {seen.refused:>9,}  errors {seen.errors} {seen.first_error}"
            )


@contextlib.contextmanager
def running_gateway() -> Generator[tuple[measure.BenchHarness, subjects.Subject, subjects.Subject]]:
    """Start the bench harness and one gateway; yield it as seen by two of its keys."""
    folder = Path(tempfile.mkdtemp(prefix="headgate-overload-"))
    harness = measure.BenchHarness(folder)
    headgate = ROOT / ".venv" / "bin" / "headgate"
    try:
        first = subjects.start_headgate(subjects.Site(folder, harness.port, headgate))
        try:
            yield harness, first, _with_other_key(first, folder / "headgate-data", headgate)
        finally:
            assert first.process
            first.process.stop()
    finally:
        harness.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _with_other_key(first: subjects.Subject, data: Path, headgate: Path) -> subjects.Subject:
    created = subprocess.run(
        [headgate, "keys", "create", "--name", "other", "--json", "--data", data],
        check=True,
        capture_output=True,
    )
    key: str = json.loads(created.stdout)["token"]
    address = traffic.Address(first.address.port, key=key)
    request = urllib.request.Request(
        f"http://127.0.0.1:{address.port}/v1/models", headers={"authorization": f"Bearer {key}"}
    )
    while not _is_answered(request):
        time.sleep(POLL_SECONDS)
    return subjects.Subject("other", address, first.process)


def _is_answered(request: urllib.request.Request) -> bool:
    """Return whether the gateway knows the key by now."""
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code != 401


def run(seconds: float) -> OverloadResult:
    """Run all windows, with a line of progress for each."""
    progress = measure.Progress()
    with running_gateway() as (harness, first, other):
        busy = Load(first, PEAK_CONNECTIONS)
        small = Load(other, SMALL_CONNECTIONS, SMALL_PACE_SECONDS)
        progress.say(f"peak: {PEAK_CONNECTIONS} connections")
        peak, other_at_peak = run_together(harness, seconds * SHORT_SHARE, busy, small)
        pace = FLOOD_CONNECTIONS / (FLOOD_FACTOR * peak.rate)
        progress.say(f"flood: {FLOOD_FACTOR * peak.rate:,.0f} calls/s on {FLOOD_CONNECTIONS}")
        flood, other_in_flood = run_together(
            harness, seconds, Load(first, FLOOD_CONNECTIONS, pace), small
        )
        progress.say("after")
        (after,) = run_together(harness, seconds * SHORT_SHARE, busy)
        progress.clear()
    return OverloadResult(peak, other_at_peak, flood, other_in_flood, after)


def main() -> int:
    parser = argparse.ArgumentParser(prog="rigs.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of the flood")
    options = parser.parse_args()
    machine.require_two_cores()
    course = run(options.seconds)
    judged = course.judge()
    print(*course.describe(), "", report.format_figures(judged), sep="\n")
    return 1 if any(figure.verdict == "MISS" for figure in judged) else 0


if __name__ == "__main__":
    sys.exit(main())
