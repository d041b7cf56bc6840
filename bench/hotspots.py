"""Profiles of Headgate's process under load, by perf and by py-spy."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

from bench import machine, measure, subjects, traffic

SECONDS = 8
REPORT_LINES = 40


def record(harness: measure.BenchHarness, subject: subjects.Subject, folder: Path) -> None:
    """Load `subject` for each installed tool, and print or name what it found."""
    assert subject.process
    py_spy = shutil.which("py-spy") or _own(folder / "venv" / "py-spy" / "bin" / "py-spy")
    if shutil.which("perf"):
        _record_perf(harness, subject, folder / "profile.perf")
    else:
        print("perf is not installed: apt-get install linux-perf shows time by library and symbol")
    if py_spy:
        _record_py_spy(harness, subject, py_spy, folder / "profile.svg")
    else:
        print(
            "py-spy is not installed; to see time by Python line:\n"
            f"  python3 -m venv {folder}/venv/py-spy && "
            f"{folder}/venv/py-spy/bin/pip install py-spy"
        )


def _own(path: Path) -> str | None:
    return str(path) if path.exists() else None


def _record_perf(harness: measure.BenchHarness, subject: subjects.Subject, data: Path) -> None:
    pids = ",".join(map(str, subject.pids()))
    _record_under_load(
        harness, subject, ["perf", "record", "-q", "-F", "499", "-o", str(data), "-p", pids]
    )
    for title, keys in (("library", "dso"), ("symbol", "dso,symbol")):
        command = ["perf", "report", "-i", str(data), "--stdio", "-q", "--sort", keys]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        print(f"\nperf, time by {title}:", *lines[:REPORT_LINES], sep="\n")


def _record_py_spy(
    harness: measure.BenchHarness, subject: subjects.Subject, py_spy: str, flame: Path
) -> None:
    pid = str(subject.pids()[0])
    command = [py_spy, "record", "--native", "--rate", "250", "--output", str(flame), "--pid", pid]
    _record_under_load(harness, subject, command)
    print(f"\npy-spy: flame graph in {flame}")


def _record_under_load(
    harness: measure.BenchHarness, subject: subjects.Subject, recorder: list[str]
) -> None:
    load = harness.command(subject, traffic.SMALL, 32)
    load += ["--seconds", str(SECONDS), "--warmup", "1"]
    with machine.run_pinned(recorder, machine.LOAD_CORE) as recording:
        time.sleep(0.5)
        window = harness.run(subject, load)
        recording.send_signal(signal.SIGINT)
        recording.communicate(timeout=60)
    print(f"recorded {window.requests:,} calls, {window.errors} errors", window.first_error)
