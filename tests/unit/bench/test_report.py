from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import figures, machine, measure, report

WINDOW = figures.Window(
    requests=1000,
    errors=0,
    first_error="",
    events=500,
    seconds=1.0,
    p50=20.0,
    p99=40.0,
    p999=60.0,
    first_chunk_p50=30.0,
    cpu_seconds=None,
    load_cpu_seconds=0.5,
)


def window(cpu_seconds: float, added: float, requests: int = 1000) -> figures.Window:
    return dataclasses.replace(
        WINDOW,
        cpu_seconds=cpu_seconds,
        requests=requests,
        p50=20 + added,
        p99=40 + added,
        first_chunk_p50=30 + added,
    )


@pytest.fixture
def run() -> report.Run:
    rounds = {
        figures.DIRECT: [WINDOW],
        figures.NGINX: [window(0.01, 28)],
        figures.HEADGATE: [window(0.02, 200)],
        figures.MANAGED: [window(0.03, 300, requests=700)],
        figures.LITELLM: [window(1, 8000, requests=2)],
    }
    memory = measure.Footprint(machine.Memory(50, 40), machine.Memory(80, 70))
    return report.Run(
        results={scenario.name: rounds for scenario in measure.SCENARIOS},
        memory={figures.HEADGATE: memory},
        growth=4.0,
        start=(0.6, 0.4),
        about={"processor": "any"},
        versions={figures.NGINX: "1.22.1"},
        notes=[],
    )


def test_every_bar_of_the_specification_is_judged(run: report.Run) -> None:
    judged = {figure.bar: (figure.value, figure.verdict) for figure in report.judge(run)}
    assert judged[figures.MANAGED_AGAINST_OWN] == (pytest.approx(0.7), "pass")
    assert judged[figures.CPU_AGAINST_NGINX] == (pytest.approx(0.5), "ambitious")
    assert judged[figures.RATE_AGAINST_LITELLM] == (pytest.approx(500), "ambitious")
    assert judged[figures.RATE_AGAINST_TENSORZERO] == (None, "not measured")
    assert judged[figures.ADDED_P50] == (pytest.approx(200), "MISS")
    assert judged[figures.FIRST_CHUNK] == (pytest.approx(200), "pass")
    assert judged[figures.MEMORY_LOAD] == (80, "ambitious")
    assert len(judged) == 13


def test_tables_name_every_subject_and_every_missed_bar(run: report.Run) -> None:
    subjects = report.format_subjects(report.summarize(run))
    assert [line.split()[0] for line in subjects.splitlines()[2:]] == list(run.subjects())
    bars = report.format_figures(report.judge(run)).splitlines()
    latency = next(line for line in bars if line.startswith("added latency p50"))
    assert latency.split("  ")[-1].strip() == "MISS"
    assert "<= 150 us" in latency


def test_table_aligns_its_columns() -> None:
    table = report.format_table(["name", "us"], [["a", "1.0"], ["longer", "12,345"]])
    assert table.splitlines() == [
        "name        us",
        "------  ------",
        "a          1.0",
        "longer  12,345",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.4567, "0.46"), (18.26, "18.3"), (54700.4, "54,700"), (-0.5, "-0.50")],
)
def test_numbers_keep_the_digits_that_matter(value: float | None, text: str) -> None:
    assert report.format_number(value) == text


def test_window_with_wrong_answers_is_named(run: report.Run) -> None:
    broken = dataclasses.replace(WINDOW, errors=3, first_error="refused: HTTP/1.1 502")
    run.results["streams"] = {figures.HEADGATE: [WINDOW, broken]}
    assert report.errors_of(run) == [
        "headgate, streams: 3 errors, the first: refused: HTTP/1.1 502"
    ]


def test_drawing_is_well_formed_and_shows_every_measured_value(run: report.Run) -> None:
    rows, judged = report.summarize(run), report.judge(run)
    root = ElementTree.fromstring(report.draw(rows, judged))
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"headgate", "nginx", "litellm"} <= texts
    assert figures.ADDED_P50.name in texts
    assert figures.RATE_AGAINST_TENSORZERO.name not in texts


def test_record_keeps_every_window(run: report.Run, tmp_path: Path) -> None:
    path = tmp_path / "results" / "run.json"
    report.record(run, report.judge(run), path)
    document = json.loads(path.read_text())
    assert document["windows"]["streams"]["nginx"][0]["requests"] == 1000
    assert document["figures"][4]["verdict"] == "MISS"
