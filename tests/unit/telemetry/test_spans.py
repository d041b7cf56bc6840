from __future__ import annotations

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headgate.telemetry.spans import Spans
from tests.fakes.example_receipt import make_receipt


def test_span_has_the_names_of_the_conventions() -> None:
    exporter = InMemorySpanExporter()
    spans = Spans(exporter)
    spans.observe([make_receipt()])
    spans.stop()
    (span,) = exporter.get_finished_spans()
    assert span.name == "chat gpt-5.4-mini"
    assert span.attributes is not None
    assert span.attributes["gen_ai.operation.name"] == "chat"
    assert span.attributes["gen_ai.provider.name"] == "openai"
    assert span.attributes["gen_ai.response.model"] == "gpt-5.4-mini-2026-03-17"
    assert span.attributes["gen_ai.usage.input_tokens"] == 1
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == 1_200_000
    assert span.status.is_ok or span.status.is_unset


def test_failed_call_is_a_span_with_an_error() -> None:
    exporter = InMemorySpanExporter()
    spans = Spans(exporter)
    spans.observe([make_receipt(status=502, outcome="unknown", error_code="provider_timeout")])
    spans.stop()
    (span,) = exporter.get_finished_spans()
    assert not span.status.is_ok
    assert span.status.description == "provider_timeout"
