"""Record OpenTelemetry spans of calls, named by the GenAI semantic conventions.

A span is made from the receipt after the settlement, with the receipt's times, so tracing adds
nothing to a call. Needs the extra `headgate[telemetry]`; loaded only when an exporter is
configured.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

import headgate
from headgate.kit.money import NANO_PER_DOLLAR
from headgate.relay.ports import Receipt

OPERATIONS = {
    "chat.completions": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}


class Spans:
    def __init__(self, exporter: SpanExporter | None = None) -> None:
        self._provider = TracerProvider(
            resource=Resource.create(
                {"service.name": "headgate", "service.version": headgate.__version__}
            )
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("headgate")

    def observe(self, receipts: Sequence[Receipt]) -> None:
        for receipt in receipts:
            self._record(receipt)

    def _record(self, receipt: Receipt) -> None:
        operation = OPERATIONS.get(receipt.endpoint, receipt.endpoint)
        end = int(receipt.created_at * 1_000_000_000)
        span = self._tracer.start_span(
            f"{operation} {receipt.model_requested or ''}".rstrip(),
            kind=trace.SpanKind.CLIENT,
            start_time=end - receipt.total_microseconds * 1_000,
            attributes=describe(receipt, operation),
        )
        if receipt.status >= 400 or receipt.outcome not in ("completed", "cancelled"):
            span.set_status(trace.StatusCode.ERROR, receipt.error_code or receipt.outcome)
        span.end(end_time=end)

    def stop(self) -> None:
        self._provider.shutdown()


def describe(receipt: Receipt, operation: str) -> dict[str, str | int | float | bool]:
    """Return the attributes of a call's span, named by the GenAI semantic conventions where they
    can be."""
    attributes: dict[str, str | int | float | bool | None] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": receipt.provider,
        "gen_ai.request.model": receipt.model_requested,
        "gen_ai.response.model": receipt.model_served,
        "gen_ai.response.id": receipt.answer_id,
        "http.response.status_code": receipt.status,
        "error.type": receipt.error_code,
        "headgate.request_id": receipt.request_id,
        "headgate.correlation_id": receipt.correlation_id,
        "headgate.organization_id": receipt.organization_id,
        "headgate.project_id": receipt.project_id,
        "headgate.key_id": receipt.key_id,
        "headgate.outcome": receipt.outcome,
        "headgate.cost_dollars": receipt.cost_nano / NANO_PER_DOLLAR,
        "headgate.overhead_us": receipt.overhead_microseconds,
    }
    usage = receipt.usage
    if usage is not None:
        attributes["gen_ai.usage.input_tokens"] = usage.input_tokens
        attributes["gen_ai.usage.output_tokens"] = usage.output_tokens
        attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    return {name: value for name, value in attributes.items() if value is not None}
