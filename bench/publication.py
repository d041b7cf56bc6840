"""The publication of a run: one picture, and the part of docs/performance.md about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import chart, figures, report

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
PAGE, PICTURE = "performance.md", "performance.svg"
PICTURE_BYTES_MAX = 200_000
COLUMNS: tuple[tuple[str, str], ...] = (
    ("1 connection, us", "cpu_c1"),
    ("32 connections, us", "cpu_c32"),
    ("nginx / it", "efficiency"),
    ("128 connections, us", "cpu_c128"),
    ("20 KB, us", "cpu_large"),
    ("us per event", "cpu_event"),
    ("us per burst stream", "cpu_burst"),
    ("first event of a burst, us", "first_of_burst"),
    ("added p50 / p99, us", "added_p50 added_p99"),
    ("MiB idle / load", "memory_idle memory_load"),
)


def publish(
    run: report.Run,
    rows: Sequence[report.Row],
    judged: Sequence[figures.Figure],
    docs: Path,
) -> None:
    """Write the picture, and the page's text between its two marks; the rest stays as it is."""
    picture = report.draw(rows, judged)
    assert len(picture.encode()) < PICTURE_BYTES_MAX, "the picture is too large to be checked in"
    (docs / PICTURE).write_text(picture)
    page = docs / PAGE
    before, _, rest = page.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{page} has lost its marks {BEGIN} and {END}"
    page.write_text(f"{before}{BEGIN}\n{render(run, rows, judged)}\n{END}{after}")


def render(run: report.Run, rows: Sequence[report.Row], judged: Sequence[figures.Figure]) -> str:
    """Return the Markdown about the run."""
    about = run.about
    machine = (
        f"{about.get('processor', '?')}, {about.get('cores', '?')} cores, "
        f"Linux {about.get('kernel', '?')}, Python {about.get('python', '?')}; load before the run "
        f"{about.get('load_before', '?')}; commit {about.get('commit', '?')}"
    )
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items() if version)
    parts = [
        f"![CPU, latency and memory of each gateway, and the figures to reach]({PICTURE})",
        f"Machine: {machine}.\n\nMeasured: {versions or 'nothing that tells its version'}. "
        "CPU time is that of the gateway's process tree, per call or per event; all values are "
        "medians over interleaved rounds.",
        _render_table(rows),
        "| figure | must | measured | |\n|---|---|---|---|\n"
        + "\n".join(_render_figure(figure) for figure in judged),
    ]
    notes = [*run.notes, *report.explain_latency(rows), *report.errors_of(run)]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


def _render_table(rows: Sequence[report.Row]) -> str:
    head = ["gateway", *(title for title, _ in COLUMNS)]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        name = f"**{row.name}**" if row.name == chart.OUR_NAME else row.name
        lines.append([name, *(_render_cell(row, names) for _, names in COLUMNS)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _render_cell(row: report.Row, names: str) -> str:
    return " / ".join(report.format_number(getattr(row, name)) for name in names.split())


def _render_figure(figure: figures.Figure) -> str:
    bar = figure.bar
    sign = "at most" if bar.low else "at least"
    measured = report.format_number(figure.value)
    return f"| {bar.name} | {sign} {bar.must:g} {bar.unit} | {measured} | {figure.verdict} |"
