from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bench import figures

WINDOW = figures.Window(
    requests=1000,
    errors=0,
    first_error="",
    events=0,
    seconds=2.0,
    p50=100.0,
    p99=900.0,
    p999=1000.0,
    first_chunk_p50=0.0,
    cpu_seconds=0.05,
    load_cpu_seconds=0.5,
)


def windows(*cpu_seconds: float | None) -> list[figures.Window]:
    return [dataclasses.replace(WINDOW, cpu_seconds=value) for value in cpu_seconds]


def cpu(window: figures.Window) -> float | None:
    return window.cpu_per_request


def test_window_is_read_from_the_report_of_the_load_program() -> None:
    report: dict[str, Any] = {
        "requests": 500,
        "errors": 1,
        "first_error": "refused: HTTP/1.1 500",
        "events": 0,
        "window": 500_000_000,
        "latency": {"count": 500, "p50": 18_705, "p90": 1, "p99": 27_301, "p999": 63_528},
        "first_chunk": {"count": 0},
        "cpu": {"10": 5_000_000, "11": 15_000_000, "99": 400_000_000},
    }
    window = figures.read_window(report, [10, 11], [99])
    assert window.rate == 1000
    assert window.cpu_per_request == pytest.approx(40)
    assert window.gateway_busy_percent == pytest.approx(4)
    assert window.load_cpu_seconds == pytest.approx(0.4)
    assert (window.p50, window.p99) == pytest.approx((18.705, 27.301))
    assert window.first_chunk_p50 == 0


def test_without_a_gateway_there_is_no_cpu_figure() -> None:
    direct = dataclasses.replace(WINDOW, cpu_seconds=None)
    assert direct.cpu_per_request is None
    assert direct.gateway_busy_percent is None


def test_ratio_is_the_median_of_same_round_ratios_not_the_ratio_of_medians() -> None:
    rounds = {"nginx": windows(0.01, 0.02, 0.09), "headgate": windows(0.02, 0.08, 0.10)}
    assert figures.ratio(rounds, "nginx", "headgate", cpu) == pytest.approx(0.5)


def test_difference_is_taken_within_each_round() -> None:
    rounds = {
        "headgate": [dataclasses.replace(WINDOW, p50=p50) for p50 in (150.0, 300.0)],
        "direct": [dataclasses.replace(WINDOW, p50=p50) for p50 in (100.0, 200.0)],
    }
    assert figures.difference(rounds, "headgate", "direct", lambda w: w.p50) == 75


def test_subject_that_did_not_run_gives_no_ratio() -> None:
    rounds = {"nginx": windows(0.01), "headgate": windows(None)}
    assert figures.ratio(rounds, "nginx", "headgate", cpu) is None
    assert figures.ratio(rounds, "nginx", "litellm", cpu) is None
    assert figures.median_of([], cpu) is None


@pytest.mark.parametrize(
    ("bar", "value", "verdict"),
    [
        (figures.CPU_AGAINST_NGINX, 0.29, "MISS"),
        (figures.CPU_AGAINST_NGINX, 0.30, "pass"),
        (figures.CPU_AGAINST_NGINX, 0.45, "ambitious"),
        (figures.ADDED_P50, 151.0, "MISS"),
        (figures.ADDED_P50, 150.0, "pass"),
        (figures.ADDED_P50, 12.0, "ambitious"),
        (figures.ADDED_P50, None, "not measured"),
    ],
)
def test_figure_is_judged_in_the_direction_of_its_bar(
    bar: figures.Bar, value: float | None, verdict: str
) -> None:
    assert figures.Figure(bar, value).verdict == verdict
