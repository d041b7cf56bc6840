"""Values and rules of receipts and usage, without I/O."""

from headgate.metering.model.receipts import (
    CORRECTED,
    MICROSECONDS,
    Latency,
    LatencySample,
    ManagedUsage,
    Outcomes,
    from_row,
    summarize,
    to_row,
)

__all__ = [
    "CORRECTED",
    "MICROSECONDS",
    "Latency",
    "LatencySample",
    "ManagedUsage",
    "Outcomes",
    "from_row",
    "summarize",
    "to_row",
]
