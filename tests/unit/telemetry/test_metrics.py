from __future__ import annotations

from headgate.kit.errors import HeadgateError
from headgate.llm.usage import Usage
from headgate.telemetry.metrics import Metrics
from tests.fakes.example_receipt import make_receipt


def test_metrics_add_up_to_the_receipts() -> None:
    metrics = Metrics({"connections": lambda: 3})
    usage = Usage(input_tokens=100, cached_tokens=40, output_tokens=10, reasoning_tokens=4)
    metrics.observe([make_receipt(usage=usage, cost_nano=1_500_000_000, attempts=3)] * 2, [0, 0])
    text = metrics.render().decode()
    labels = 'endpoint="chat.completions",model="gpt-5.4-mini",outcome="completed"'
    assert f'headgate_calls_total{{{labels},pricing="priced",status="200"}} 2.0' in text
    assert 'headgate_tokens_total{kind="input",model="gpt-5.4-mini"} 200.0' in text
    assert 'headgate_tokens_total{kind="cached",model="gpt-5.4-mini"} 80.0' in text
    assert 'headgate_cost_dollars_total{managed="false",model="gpt-5.4-mini"} 3.0' in text
    assert "headgate_retries_total 4.0" in text
    assert "headgate_overhead_seconds_count 2.0" in text
    assert "headgate_connections 3.0" in text


def test_model_without_a_price_makes_no_label_of_its_own() -> None:
    metrics = Metrics({})
    for number in range(50):
        name = f"made-up-{number}"
        metrics.observe(
            [make_receipt(model_requested=name, price_id=None, pricing="unpriced")], [0]
        )
    text = metrics.render().decode()
    assert "made-up" not in text
    assert 'model="other"' in text


def test_refusals_are_counted_by_code() -> None:
    metrics = Metrics({})
    metrics.count_refusal(HeadgateError("No."))
    text = metrics.render().decode()
    assert 'headgate_refusals_total{code="internal_error",status="500"} 1.0' in text


def test_duration_falls_into_the_bucket_that_holds_it() -> None:
    metrics = Metrics({})
    metrics.observe([make_receipt(overhead_microseconds=60)], [40])
    lines = metrics.render().decode().splitlines()
    counts = [line for line in lines if line.startswith("headgate_overhead_seconds_bucket")]
    assert counts[0] == 'headgate_overhead_seconds_bucket{le="5e-05"} 0.0'
    assert counts[1] == 'headgate_overhead_seconds_bucket{le="0.0001"} 1.0'


def test_process_memory_descriptors_and_loop_lag_are_exported() -> None:
    metrics = Metrics({})
    metrics.loop_lag.observe(60_000)
    text = metrics.render().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["process_resident_memory_bytes"]) > 2**20
    assert float(values["process_open_fds"]) > 0
    assert values['headgate_event_loop_lag_seconds_bucket{le="0.05"}'] == "0.0"
    assert values['headgate_event_loop_lag_seconds_bucket{le="0.1"}'] == "1.0"
