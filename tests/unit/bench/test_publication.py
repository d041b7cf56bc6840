"""What a run writes into the documentation: a picture, and the page between two marks."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import figures, measure, publication, report, subjects, traffic
from bench.machine import BenchError

ROOT = Path(__file__).parents[3]
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
    cpu_seconds=0.05,
    load_cpu_seconds=0.5,
)


@pytest.fixture
def run() -> report.Run:
    rounds = {name: [WINDOW] for name in (figures.NGINX, figures.HEADGATE)}
    return report.Run(
        results={scenario.name: rounds for scenario in measure.SCENARIOS},
        memory={},
        growth=None,
        start=None,
        about={"processor": "A processor", "commit": "0123456789ab"},
        versions={figures.NGINX: "1.22.1"},
        notes=["a note"],
    )


def publish(run: report.Run, docs: Path) -> str:
    publication.publish(run, report.summarize(run), report.judge(run), docs)
    return (docs / publication.PAGE).read_text()


def test_run_is_written_between_the_marks_with_its_picture(run: report.Run, tmp_path: Path) -> None:
    page = tmp_path / publication.PAGE
    page.write_text(f"before\n{publication.BEGIN}\nold\n{publication.END}\nafter\n")
    text = publish(run, tmp_path)
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    for part in ("A processor", "0123456789ab", "| **headgate** |", "| nginx |", "- a note"):
        assert part in text
    assert f"({publication.PICTURE})" in text
    assert (tmp_path / publication.PICTURE).read_text().startswith("<svg")
    assert publish(run, tmp_path) == text


def test_page_of_the_documentation_has_the_marks(run: report.Run, tmp_path: Path) -> None:
    page = tmp_path / publication.PAGE
    page.write_text((ROOT / "docs" / publication.PAGE).read_text())
    assert "| **headgate** |" in publish(run, tmp_path)


def test_peer_that_is_a_program_is_measured_where_the_environment_names_it(tmp_path: Path) -> None:
    assert subjects.find_programs({"HEADGATE_BENCH_BIFROST": ""}) == {}
    environment = {subjects.PROGRAMS[figures.BIFROST]: str(tmp_path / "bifrost-http")}
    with pytest.raises(BenchError, match="HEADGATE_BENCH_BIFROST"):
        subjects.find_programs(environment)
    (tmp_path / "bifrost-http").touch()
    programs = subjects.find_programs(environment)
    site = subjects.Site(tmp_path, 1, tmp_path / "headgate", programs)
    assert subjects.is_installed(figures.BIFROST, site)
    assert not subjects.is_installed(figures.AGENTGATEWAY, site)
    assert subjects.version_of(figures.BIFROST, site) == "bifrost-http"


def test_configurations_of_the_peers_lead_to_the_upstream() -> None:
    config = subjects.make_bifrost_config(4321)
    assert "http://127.0.0.1:4321" in str(config)
    fields = {"port": 1, "ready": 2, "admin": 3, "stats": 4, "upstream": 4321}
    text = subjects.AGENTGATEWAY_CONFIG.format(**fields, model=traffic.MODEL, key="k")
    assert "baseUrl: http://127.0.0.1:4321/v1" in text
