"""`python -m bench.run`: Headgate against nginx (the limit) and its peers, and the bars met."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from types import FrameType

from bench import figures, hotspots, machine, measure, messages, publication, report, subjects

ROOT = Path(__file__).parent.parent
OURS = (figures.HEADGATE, figures.MANAGED)
PEERS = [name for name in subjects.START if name not in (figures.DIRECT, *OURS)]
WORK = ROOT / ".bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if all bars are met, 1 for a missed bar or a wrong answer, 2 if the bench cannot
    run.
    """
    options = read_options(arguments)
    signal.signal(signal.SIGTERM, _leave)
    try:
        if options.install_peers:
            subjects.install_peers(WORK)
            return 0
        machine.require_two_cores()
        with _running_harness() as harness:
            programs = subjects.find_programs(os.environ)
            site = subjects.Site(WORK, harness.port, options.headgate, programs)
            if options.profile:
                return _profile(harness, site)
            if options.messages:
                return _compare_messages(harness, site, options)
            return _present(_measure(harness, site, options), publishes=options.publish)
    except machine.BenchError as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 2


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="nginx and headgate only, short windows, below 60 s")
    add("--managed", action="store_true", help="only managed calls against own-key calls")
    add("--messages", action="store_true", help="only converted Messages against Responses")
    add("--rounds", type=int, help="interleaved rounds (4; quick: 2)")
    add("--peers", help=f"comma-separated, of {','.join(PEERS)} (default: those installed)")
    add("--headgate", type=Path, default=ROOT / ".venv/bin/headgate", help="the headgate command")
    add("--publish", action="store_true", help="rewrite docs/performance.md and its picture")
    add("--seconds-scale", type=float, help="a factor on the length of every window (1)")
    add("--install-peers", action="store_true", help="install the pinned peers into .bench/")
    add("--profile", action="store_true", help="profile Headgate under load, and exit")
    return parser.parse_args(arguments)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _running_harness() -> Generator[measure.BenchHarness]:
    harness = measure.BenchHarness(WORK)
    try:
        yield harness
    finally:
        harness.stop()


def _wanted(site: subjects.Site, options: argparse.Namespace) -> list[str]:
    """Return the subjects of this run in a fixed order; those requested must be installed."""
    if options.managed:
        asked = []
    elif options.quick:
        asked = [figures.NGINX]
    elif options.peers is not None:
        asked = [name for name in options.peers.split(",") if name]
    else:
        asked = [n for n in PEERS if n == figures.NGINX or subjects.is_installed(n, site)]
    for name in asked:
        if name not in subjects.START:
            raise machine.BenchError(f"unknown peer {name!r}; known: {', '.join(subjects.START)}")
        if not subjects.is_installed(name, site):
            raise machine.BenchError(f"{name} is not installed; see bench/README.md")
    chosen = {figures.DIRECT, *asked}
    if subjects.is_installed(figures.HEADGATE, site):
        chosen.update(OURS)
    return [name for name in subjects.START if name in chosen]


@contextlib.contextmanager
def _running(names: Sequence[str], site: subjects.Site) -> Generator[list[subjects.Subject]]:
    """Start all subjects one after the other, and pause them."""
    running: list[subjects.Subject] = []
    try:
        for name in names:
            subject = subjects.START[name](site)
            running.append(subject)
            if subject.process:
                subject.process.pause()
        yield running
    finally:
        for subject in running:
            if subject.process:
                subject.process.stop()


def _measure(
    harness: measure.BenchHarness, site: subjects.Site, options: argparse.Namespace
) -> report.Run:
    names = _wanted(site, options)
    scale = options.seconds_scale or (0.5 if options.quick else 1.0)
    rounds = options.rounds or (2 if options.quick else 4)
    progress = measure.Progress()
    about = {**machine.describe(), "commit": measure.commit(), "command": " ".join(sys.argv)}
    scenarios, notes = _choose_scenarios(options)
    progress.say(f"starting {', '.join(names)}")
    with _running(names, site) as running:
        memory: dict[str, measure.Footprint] = {}
        for subject in () if options.managed else running:
            progress.say(f"memory: {subject.name}")
            footprint = measure.measure_memory(harness, subject, scale)
            if footprint:
                memory[subject.name] = footprint
        results = measure.run_rounds(
            harness,
            running,
            scenarios,
            measure.Plan(rounds, scale),
            say=progress.say,
        )
    ours = figures.HEADGATE in names and not options.managed
    growth = measure.measure_growth(harness, site, progress) if ours and not options.quick else None
    progress.say("start-up times")
    start = measure.measure_start(site, 1 if options.quick else 3) if ours else None
    progress.clear()
    versions = {name: subjects.version_of(name, site) for name in names}
    return report.Run(results, memory, growth, start, about, versions, notes)


def _compare_messages(
    harness: measure.BenchHarness, site: subjects.Site, options: argparse.Namespace
) -> int:
    progress = measure.Progress()
    plan = measure.Plan(options.rounds or 4, options.seconds_scale or 1.0)
    compared = messages.compare(harness, site, plan, progress.say)
    progress.clear()
    return messages.present(compared)


def _choose_scenarios(options: argparse.Namespace) -> tuple[list[measure.Scenario], list[str]]:
    """Return the scenarios of this run, and notes about them for the reader."""
    notes: list[str] = []
    if options.managed:
        return [measure.C32, measure.C128], ["only managed calls against own-key calls"]
    chosen = [
        scenario
        for scenario in measure.SCENARIOS
        if not options.quick or scenario in (measure.C32, measure.STREAMS, measure.LATENCY)
    ]
    if options.quick:
        notes.append("quick run: short windows, no growth figure; for a first look only")
    if not machine.can_use_fifo():
        chosen = [measure.without_real_time(scenario) for scenario in chosen]
        notes.append("no right to SCHED_FIFO: latency includes the noise of the scheduler")
    return chosen, notes


def _present(run: report.Run, *, publishes: bool) -> int:
    judged = report.judge(run)
    rows = report.summarize(run)
    wrong = report.errors_of(run)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    record, drawing = WORK / "results" / f"{stamp}.json", WORK / "results.svg"
    report.record(run, judged, record)
    drawing.write_text(report.draw(rows, judged))
    if publishes:
        publication.publish(run, rows, judged, ROOT / "docs")
    print(" ".join(f"{key}={value!r}" for key, value in run.about.items()))
    print(" ".join(f"{name} {version}" for name, version in run.versions.items() if version))
    print(f"\n{report.format_subjects(rows)}\n\n{report.format_figures(judged)}\n")
    for line in (*run.notes, *report.explain_latency(rows), *wrong):
        print(f"note: {line}")
    if figures.HEADGATE not in run.subjects():
        print("note: headgate is not installed (make setup): only the others were measured")
    print(f"record: {os.path.relpath(record)}\ndrawing: {os.path.relpath(drawing)}")
    missed = any(figure.verdict == "MISS" for figure in judged)
    return 1 if missed or wrong or figures.HEADGATE not in run.subjects() else 0


def _profile(harness: measure.BenchHarness, site: subjects.Site) -> int:
    with _running([figures.HEADGATE], site) as (subject,):
        assert subject.process
        subject.process.resume()
        hotspots.record(harness, subject, WORK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
