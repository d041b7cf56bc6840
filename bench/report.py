"""The report of a run: tables for the terminal, a drawing, a JSON record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import chart, figures, measure


@dataclass(frozen=True)
class Run:
    """Hold all that one run measured."""

    results: measure.Results
    memory: Mapping[str, measure.Footprint]
    growth: float | None
    start: tuple[float, float] | None
    about: Mapping[str, str]
    versions: Mapping[str, str]
    notes: Sequence[str]

    def rounds(self, scenario: measure.Scenario) -> figures.Rounds:
        return self.results.get(scenario.name, {})

    def subjects(self) -> list[str]:
        return list(dict.fromkeys(name for rounds in self.results.values() for name in rounds))


def _cpu(window: figures.Window) -> float | None:
    return window.cpu_per_request


def _event_cpu(window: figures.Window) -> float | None:
    return window.cpu_per_event


def _rate(window: figures.Window) -> float | None:
    return window.rate


def _p50(window: figures.Window) -> float | None:
    return window.p50


def _p99(window: figures.Window) -> float | None:
    return window.p99


def _first_chunk(window: figures.Window) -> float | None:
    return window.first_chunk_p50


def judge(run: Run) -> list[figures.Figure]:
    """Return every bar with this run's value."""
    c32, streams = run.rounds(measure.C32), run.rounds(measure.STREAMS)
    latency = run.rounds(measure.LATENCY)
    gate, nginx, direct = figures.HEADGATE, figures.NGINX, figures.DIRECT
    footprint = run.memory.get(gate)
    first, again = run.start or (None, None)
    values: list[tuple[figures.Bar, float | None]] = [
        (figures.CPU_AGAINST_NGINX, figures.ratio(c32, nginx, gate, _cpu)),
        (figures.RATE_AGAINST_LITELLM, figures.ratio(c32, gate, figures.LITELLM, _rate)),
        (figures.RATE_AGAINST_TENSORZERO, figures.ratio(c32, gate, figures.TENSORZERO, _rate)),
        (figures.MANAGED_AGAINST_OWN, figures.ratio(c32, figures.MANAGED, gate, _rate)),
        (figures.ADDED_P50, figures.difference(latency, gate, direct, _p50)),
        (figures.ADDED_P99, figures.difference(latency, gate, direct, _p99)),
        (figures.STREAM_AGAINST_NGINX, figures.ratio(streams, nginx, gate, _event_cpu)),
        (figures.FIRST_CHUNK, figures.difference(streams, gate, direct, _first_chunk)),
        (figures.MEMORY_IDLE, footprint.idle.resident if footprint else None),
        (figures.MEMORY_LOAD, footprint.load.resident if footprint else None),
        (figures.MEMORY_GROWTH, run.growth),
        (figures.START_FIRST, first),
        (figures.START_AGAIN, again),
    ]
    return [figures.Figure(bar, value) for bar, value in values]


def errors_of(run: Run) -> list[str]:
    """Return one line per window with wrong answers: such a window proves nothing."""
    return [
        f"{subject}, {scenario}: {window.errors} errors, the first: {window.first_error}"
        for scenario, subjects in run.results.items()
        for subject, windows in subjects.items()
        for window in windows
        if window.errors
    ]


def format_number(value: float | None) -> str:
    """Return at least three significant digits, never an exponent; a dash when not measured."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns as wide as their widest cell; the first to the left, others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def format_figures(judged: Sequence[figures.Figure]) -> str:
    """Return the table of bars: what must be reached, what is hoped for, what was reached."""

    def row(figure: figures.Figure) -> list[str]:
        bar = figure.bar
        sign = "<=" if bar.low else ">="
        unit = f" {bar.unit}" if bar.unit else ""
        value = format_number(figure.value) + (unit if figure.value is not None else "")
        bars = [f"{sign} {bound:g}{unit}" for bound in (bar.must, bar.ambitious)]
        return [bar.name, *bars, value, figure.verdict]

    return format_table(["figure", "must", "ambitious", "measured", ""], [*map(row, judged)])


@dataclass(frozen=True)
class Row:
    """Hold one subject's medians over the rounds; None: not measured or without meaning for it."""

    name: str
    rate: float | None
    cpu_c32: float | None
    cpu_c128: float | None
    cpu_c1: float | None
    efficiency: float | None
    cpu_large: float | None
    cpu_event: float | None
    first_chunk: float | None
    cpu_burst: float | None
    first_of_burst: float | None
    added_p50: float | None
    added_p99: float | None
    memory_idle: float | None
    memory_load: float | None
    core_busy: float | None


HEADER = (
    "subject",
    "calls/s",
    "us/call",
    "c128",
    "c1",
    "nginx/it",
    "20 KB",
    "us/event",
    "1st chunk us",
    "us/burst",
    "1st of burst us",
    "+p50 us",
    "+p99 us",
    "MiB idle",
    "load",
    "core %",
)


def summarize(run: Run) -> list[Row]:
    def added(name: str, value: figures.Value) -> float | None:
        if name == figures.DIRECT:
            return None
        return figures.difference(run.rounds(measure.LATENCY), name, figures.DIRECT, value)

    def median(scenario: measure.Scenario, name: str, value: figures.Value) -> float | None:
        return figures.median_of(run.rounds(scenario).get(name, ()), value)

    def row(name: str) -> Row:
        footprint = run.memory.get(name)
        return Row(
            name,
            rate=median(measure.C32, name, _rate),
            cpu_c32=median(measure.C32, name, _cpu),
            cpu_c128=median(measure.C128, name, _cpu),
            cpu_c1=median(measure.C1, name, _cpu),
            efficiency=figures.ratio(run.rounds(measure.C32), figures.NGINX, name, _cpu),
            cpu_large=median(measure.LARGE, name, _cpu),
            cpu_event=median(measure.STREAMS, name, _event_cpu),
            first_chunk=median(measure.STREAMS, name, _first_chunk),
            cpu_burst=median(measure.BURSTS, name, _cpu),
            first_of_burst=median(measure.BURSTS, name, _first_chunk),
            added_p50=added(name, _p50),
            added_p99=added(name, _p99),
            memory_idle=footprint.idle.resident if footprint else None,
            memory_load=footprint.load.resident if footprint else None,
            core_busy=median(measure.C32, name, lambda w: w.gateway_busy_percent),
        )

    return [row(name) for name in run.subjects()]


def explain_latency(rows: Sequence[Row]) -> list[str]:
    """Return what nginx adds here: most of it is the machine waking a core, for every gateway."""
    return [
        f"of the added latency, nginx alone takes {row.added_p50:.0f} us p50 on this machine"
        " (28 us on the one where the bars were set)"
        for row in rows
        if row.name == figures.NGINX and row.added_p50 is not None
    ]


def format_subjects(rows: Sequence[Row]) -> str:
    """Return the medians of every subject side by side."""
    cells = [dataclasses.astuple(row) for row in rows]
    return format_table(HEADER, [[row[0], *map(format_number, row[1:])] for row in cells])


def _panel(title: str, unit: str, values: Sequence[tuple[str, float | None]]) -> chart.Panel:
    return chart.Panel(title, unit, [(name, value) for name, value in values if value is not None])


def draw(rows: Sequence[Row], judged: Sequence[figures.Figure]) -> str:
    """Return the run as one SVG drawing."""
    panels = [
        _panel("CPU per call, 32 connections", "us", [(r.name, r.cpu_c32) for r in rows]),
        _panel("Latency added at 1 connection, p50", "us", [(r.name, r.added_p50) for r in rows]),
        _panel("CPU per streamed event", "us", [(r.name, r.cpu_event) for r in rows]),
        _panel(
            "CPU per stream whose 66 events come at once",
            "us",
            [(r.name, r.cpu_burst) for r in rows],
        ),
        _panel("Resident memory under load", "MiB", [(r.name, r.memory_load) for r in rows]),
    ]
    gauges = [
        chart.Gauge(f.bar.name, f.bar.unit, f.value, f.bar.must, f.bar.ambitious, f.bar.low)
        for f in judged
        if f.value is not None
    ]
    return chart.draw(panels, gauges)


def record(run: Run, judged: Sequence[figures.Figure], path: Path) -> None:
    """Write all windows and verdicts, so that a figure can be checked later."""
    document = {
        "about": run.about,
        "versions": run.versions,
        "notes": run.notes,
        "figures": [
            {**dataclasses.asdict(f.bar), "value": f.value, "verdict": f.verdict} for f in judged
        ],
        "memory": {name: dataclasses.asdict(f) for name, f in run.memory.items()},
        "growth": run.growth,
        "start": run.start,
        "windows": {
            scenario: {name: [*map(dataclasses.asdict, ws)] for name, ws in subjects.items()}
            for scenario, subjects in run.results.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
