"""The driver of the load program: windows, interleaved rounds, memory and start-up times."""

from __future__ import annotations

import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import figures, machine, subjects, traffic

STREAM_WARMUP_SECONDS = 1.5
"""Longer than one stream lasts, so that the window sees streams of every age."""


@dataclass(frozen=True)
class Scenario:
    """Describe one column of the method: which call, on how many connections."""

    name: str
    kind: traffic.Kind
    connections: int
    seconds: float = 1.0
    slow_seconds: float = 4.0
    real_time: bool = False
    is_of_calls: bool = False
    """Whether managed calls are measured in it, too."""


C32 = Scenario("32 connections", traffic.SMALL, 32, is_of_calls=True)
C128 = Scenario("128 connections", traffic.SMALL, 128, is_of_calls=True)
C1 = Scenario("1 connection", traffic.SMALL, 1)
LARGE = Scenario("20 KB, 32 connections", traffic.LARGE, 32)
STREAMS = Scenario("streams", traffic.STREAM, 0, seconds=2.0)
BURSTS = Scenario("streams that come at once, 32 connections", traffic.BURST, 32)
LATENCY = Scenario("latency, 1 connection", traffic.SMALL, 1, real_time=True)
SCENARIOS = (C32, C128, C1, LARGE, STREAMS, BURSTS, LATENCY)


def without_real_time(scenario: Scenario) -> Scenario:
    return dataclasses.replace(scenario, real_time=False)


@dataclass
class Progress:
    """Show one line that says what runs now: rewritten on a terminal, appended elsewhere."""

    begin: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self.begin:5.0f} s  {text}"
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class BenchHarness:
    """Hold the upstream on the load core, and the load program beside it."""

    def __init__(self, folder: Path) -> None:
        programs = folder / "native"
        self.folder = folder
        self._load = machine.build_native("load", programs)
        upstream = machine.build_native("upstream", programs)
        self.port = machine.free_port()
        self._upstream = machine.Process(
            [str(upstream), str(self.port)],
            core=machine.LOAD_CORE,
            log=folder / "logs" / "upstream.log",
        )
        self._upstream.wait_until_ready(f"http://127.0.0.1:{self.port}/", 5)
        self._keep_expected_answers()

    def stop(self) -> None:
        self._upstream.stop()

    def upstream_pids(self) -> list[int]:
        return self._upstream.pids()

    def _keep_expected_answers(self) -> None:
        for kind in traffic.KINDS:
            url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
            body = traffic.render_body(kind)
            with urllib.request.urlopen(url, body) as response:
                self._expected(kind).write_bytes(response.read())

    def _expected(self, kind: traffic.Kind) -> Path:
        return self.folder / f"expected-{kind.name}"

    def command(self, subject: subjects.Subject, kind: traffic.Kind, connections: int) -> list[str]:
        """Return the load program's command for one call and subject, without its duration."""
        request = self.folder / f"request-{subject.name}-{kind.name}"
        request.write_bytes(traffic.render_request(kind, subject.address))
        command = self.load_command(subject, request, connections)
        if kind.stream:
            command += ["--stream", "--events", str(traffic.EVENTS if subject.verbatim else 0)]
        elif subject.verbatim:
            command += ["--expect", str(self._expected(kind))]
        else:
            command += ["--contains", '"completion_tokens"']
        return command

    def load_command(self, subject: subjects.Subject, request: Path, connections: int) -> list[str]:
        """Return the beginning of the load program's command for the request of a file."""
        command = [str(self._load), "--port", str(subject.address.port), "--request", str(request)]
        return [*command, "--connections", str(connections)]

    def run(
        self,
        subject: subjects.Subject,
        command: Sequence[str],
        *,
        real_time: bool = False,
        watch: Callable[[], None] | None = None,
    ) -> figures.Window:
        """Run one load command to its end; `watch` is called ten times a second meanwhile."""
        gateway, upstream = subject.pids(), self.upstream_pids()
        watched = ",".join(map(str, [*gateway, *upstream]))
        priority = machine.FIFO_PRIORITY if real_time else 0
        full = [*command, "--cpu-of", watched]
        with machine.run_pinned(full, machine.LOAD_CORE, priority) as load:
            while watch and load.poll() is None:
                watch()
                time.sleep(0.1)
            output, _ = load.communicate()
        if load.returncode:
            raise machine.BenchError(f"the load program failed against {subject.name}")
        return figures.read_window(json.loads(output), gateway, upstream)

    def run_scenario(
        self, subject: subjects.Subject, scenario: Scenario, scale: float
    ) -> figures.Window:
        """Measure one window of `scenario`; `scale` shortens or stretches it."""
        stream = scenario.kind.stream
        connections = scenario.connections or subject.streams
        seconds = (scenario.slow_seconds if subject.slow else scenario.seconds) * scale
        warmup = STREAM_WARMUP_SECONDS if stream and not scenario.kind.burst else 0.3
        command = self.command(subject, scenario.kind, connections)
        command += ["--seconds", str(seconds), "--warmup", str(warmup)]
        pids = [*subject.pids(), *self.upstream_pids()]
        if scenario.real_time:
            machine.set_fifo(pids, wanted=True)
        try:
            return self.run(subject, command, real_time=scenario.real_time)
        finally:
            if scenario.real_time:
                machine.set_fifo(pids, wanted=False)


Results = dict[str, dict[str, list[figures.Window]]]
"""Windows by scenario and subject, in the order of the rounds."""


@dataclass(frozen=True)
class Plan:
    """Set how often and how long: rounds, and a factor on the length of every window."""

    rounds: int
    scale: float = 1.0


def run_rounds(
    harness: BenchHarness,
    running: Sequence[subjects.Subject],
    scenarios: Iterable[Scenario],
    plan: Plan,
    *,
    say: Callable[[str], None],
) -> Results:
    """Give each subject its window in each round (A B A B); all gateways but one are paused."""
    results: Results = {}
    for scenario in scenarios:
        measured = [s for s in running if scenario.is_of_calls or not s.only_calls]
        windows = results.setdefault(scenario.name, {s.name: [] for s in measured})
        for number in range(1, plan.rounds + 1):
            for subject in measured:
                say(f"{scenario.name}, round {number} of {plan.rounds}: {subject.name}")
                if subject.process:
                    subject.process.resume()
                windows[subject.name].append(harness.run_scenario(subject, scenario, plan.scale))
                if subject.process:
                    subject.process.pause()
    return results


@dataclass(frozen=True)
class Footprint:
    """Hold one subject's memory in MiB: after its start, and the peak under load."""

    idle: machine.Memory
    load: machine.Memory


def measure_memory(
    harness: BenchHarness, subject: subjects.Subject, scale: float
) -> Footprint | None:
    """Measure idle first, then the peak over calls on 128 connections and over many streams."""
    process = subject.process
    if not process or subject.only_calls:
        return None
    process.resume()
    idle = process.memory()
    seen: list[machine.Memory] = [idle]
    for kind, connections in ((traffic.SMALL, 128), (traffic.STREAM, subject.streams)):
        command = harness.command(subject, kind, connections)
        command += ["--seconds", str(3 * scale), "--warmup", "0.3"]
        harness.run(subject, command, watch=lambda: seen.append(process.memory()))
    process.pause()
    return Footprint(idle, max(seen, key=lambda memory: memory.resident))


def measure_growth(harness: BenchHarness, site: subjects.Site, progress: Progress) -> float:
    """Return the MiB that a fresh Headgate grows between its 20,000th and its 200,000th call."""
    subject = subjects.start_headgate(site, _fresh(site.folder / "growth-data"))
    assert subject.process
    try:
        resident: list[float] = []
        for calls in (20_000, 180_000):
            progress.say(f"memory growth: {calls:,} calls")
            command = [*harness.command(subject, traffic.SMALL, 32), "--requests", str(calls)]
            window = harness.run(subject, command)
            if window.errors:
                raise machine.BenchError(f"memory growth: {window.first_error}")
            resident.append(subject.process.memory().resident)
        return resident[1] - resident[0]
    finally:
        subject.process.stop()


def measure_start(site: subjects.Site, times: int) -> tuple[float, float]:
    """Return median seconds until ready: on empty data folders, and on the same ones again."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        data = _fresh(site.folder / "start-data")
        for into in seconds:
            subject = subjects.start_headgate(site, data)
            into.append(subject.ready_seconds)
            assert subject.process
            subject.process.stop()
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def commit() -> str:
    """Return the commit that is measured, with a + when the work tree differs from it."""
    git = ["git", "describe", "--always", "--dirty=+", "--abbrev=12"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
