"""Receipts as rows, and sums over them."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import msgspec

from headgate.llm.usage import Usage
from headgate.relay.ports import Receipt

MICROSECONDS = 1_000_000
BANDS = (("low", 1_000), ("standard", 5_000))
"""Bands of latency, each with the median in milliseconds that it stays below."""
HIGH = "high"
CORRECTED = "corrected"
"""The outcome of a receipt that corrects the cost of a call; it is no call itself."""

_encode_usage = msgspec.json.Encoder().encode
_decode_usage = msgspec.json.Decoder(Usage).decode


class LatencySample(msgspec.Struct, frozen=True):
    """Hold the latency of one completed call: to the first byte of a stream, else to the whole
    answer."""

    request_id: str
    credential_id: str
    model_id: str
    microseconds: int


class Latency(msgspec.Struct, frozen=True):
    """Hold the median and the 95th percentile of the latency of some calls."""

    p50_ms: int
    p95_ms: int
    samples: int

    @property
    def band(self) -> str:
        """Return `low`, `standard` or `high`, by the median."""
        return next((band for band, below_ms in BANDS if self.p50_ms < below_ms), HIGH)


def summarize(samples: Collection[int]) -> Latency:
    """Return the nearest-rank percentiles of at least one sample in microseconds."""
    ordered = sorted(samples)
    p50, p95 = (ordered[math.ceil(len(ordered) * part) - 1] for part in (0.5, 0.95))
    return Latency(round(p50 / 1000), round(p95 / 1000), len(ordered))


class ManagedUsage(msgspec.Struct, frozen=True):
    """Sum the managed calls of a project to one model, or the corrections of such calls.

    `credit_nano` is the part of the cost that the credits of the plan paid.
    """

    project_id: str
    provider: str
    model: str
    is_correction: bool
    calls: int
    cost_nano: int
    credit_nano: int


class Outcomes(msgspec.Struct, frozen=True):
    """Count the calls to one endpoint that reached a provider, and those that completed."""

    endpoint: str
    calls: int
    completed: int


def to_row(receipt: Receipt) -> tuple[Any, ...]:
    """Return a receipt as a row, in the column order of the table.

    Absent values are empty texts, not NULL: the SQLite driver takes a microsecond to bind each
    None, which would double the cost of the hot insert.
    """
    usage = receipt.usage
    return (
        receipt.request_id,
        int(receipt.created_at * MICROSECONDS),
        receipt.organization_id,
        receipt.project_id,
        receipt.key_id,
        receipt.credential_id or "",
        1 if receipt.managed else 0,
        receipt.endpoint,
        receipt.method,
        receipt.provider,
        receipt.model_requested or "",
        receipt.model_served or "",
        receipt.answer_id or "",
        receipt.upstream_request_id or "",
        receipt.correlation_id or "",
        receipt.status,
        receipt.outcome,
        receipt.error_code or "",
        1 if receipt.streamed else 0,
        "" if usage is None else _encode_usage(usage).decode(),
        1 if receipt.estimated else 0,
        receipt.service_tier or "",
        receipt.pricing,
        receipt.unpriced_reason or "",
        receipt.price_id or "",
        receipt.cost_nano,
        receipt.attempts,
        receipt.first_byte_microseconds,
        receipt.upstream_microseconds,
        receipt.total_microseconds,
        receipt.overhead_microseconds,
        receipt.metadata,
        receipt.cache_status,
        receipt.credit_nano,
    )


def from_row(row: Any) -> Receipt:
    return Receipt(
        request_id=row.request_id,
        created_at=row.created_at / MICROSECONDS,
        organization_id=row.organization_id,
        project_id=row.project_id,
        key_id=row.key_id,
        credential_id=row.credential_id or None,
        managed=bool(row.managed),
        endpoint=row.endpoint,
        method=row.method,
        provider=row.provider,
        model_requested=row.model_requested or None,
        model_served=row.model_served or None,
        answer_id=row.answer_id or None,
        upstream_request_id=row.upstream_request_id or None,
        correlation_id=row.correlation_id or None,
        status=row.status,
        outcome=row.outcome,
        error_code=row.error_code or None,
        streamed=bool(row.streamed),
        usage=_decode_usage(row.usage) if row.usage else None,
        estimated=bool(row.estimated),
        service_tier=row.service_tier or None,
        pricing=row.pricing,
        unpriced_reason=row.unpriced_reason or None,
        price_id=row.price_id or None,
        cost_nano=row.cost_nano,
        attempts=row.attempts,
        first_byte_microseconds=row.first_byte_microseconds,
        upstream_microseconds=row.upstream_microseconds,
        total_microseconds=row.total_microseconds,
        overhead_microseconds=row.overhead_microseconds,
        metadata=row.metadata,
        cache_status=row.cache_status,
        credit_nano=row.credit_nano,
    )
