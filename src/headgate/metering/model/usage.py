"""Usage: sums over receipts, by who called what through which credential."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.usage import Usage
from headgate.metering.model.histogram import find_percentile, make_histogram
from headgate.metering.model.receipts import CORRECTED
from headgate.metering.model.zones import floor_quarter

DIMENSIONS = ("project_id", "key_id", "credential_id", "provider", "model", "managed")
"""What a roll-up row is of, beside its organization and time."""
SUMS = (
    "requests",
    "completed",
    "errors",
    "cache_hits",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "output_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
    "output_image_tokens",
    "cost_nano",
    "wallet_nano",
    "credit_nano",
    "latency_count",
    "latency_microseconds",
)
TOKENS = tuple(name for name in SUMS if name.endswith("_tokens"))
NOT_FAILED = frozenset({"completed", "cancelled"})
"""The outcomes that are no errors: a client that left is none of the provider or the gateway."""

_decode_usage = msgspec.json.Decoder(Usage).decode

Group = tuple[Any, ...]


class UsageRangeError(HeadgateError):
    """The range of time is empty or reversed, or cannot be read.

    Name a start before the end.
    """

    kind = Kind.INVALID
    code = "invalid_range"


class InvalidGroupError(HeadgateError):
    """A name in `group_by` is none of the fields that usage can be grouped by.

    Use the names in the message, each once, and at most one of `hour`, `day` and `month`.
    """

    kind = Kind.INVALID
    code = "invalid_group"


class UsageTooLargeError(HeadgateError):
    """The query has more groups, or would read more receipts, than one answer may.

    Use a shorter range, a filter, or fewer fields in `group_by`.
    """

    kind = Kind.INVALID
    code = "usage_too_large"


class Measures(msgspec.Struct):
    """Add up receipts. Amounts are nano-dollars at list price. `wallet_nano` and `credit_nano` are
    the parts of the cost that the wallet and the plan's credits paid. Latencies are those of
    completed calls, from the request to the end of the answer."""

    requests: int = 0
    completed: int = 0
    errors: int = 0
    cache_hits: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    cost_nano: int = 0
    wallet_nano: int = 0
    credit_nano: int = 0
    latency_count: int = 0
    latency_microseconds: int = 0
    histogram: int = 0

    def find_percentile(self, share: float) -> int | None:
        """Return a percentile of the latencies in microseconds, at most 2 % beside the exact
        one; None without latencies."""
        return find_percentile(self.histogram, share)

    def add(self, other: Measures) -> None:
        for name in (*SUMS, "histogram"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def add_row(self, row: Any) -> None:
        """Add a selected receipt. A correction changes the amounts and is no call."""
        cost, credit = row.cost_nano, row.credit_nano
        self.cost_nano += cost
        if row.managed:
            self.credit_nano += credit
            self.wallet_nano += cost - credit
        if row.outcome == CORRECTED:
            return
        self.requests += 1
        self.cache_hits += row.cache_status == "hit"
        if row.outcome == "completed":
            self.completed += 1
            self._add_latency(row.total_microseconds)
        elif row.outcome not in NOT_FAILED:
            self.errors += 1
        if row.usage:
            usage = _decode_usage(row.usage)
            for name in TOKENS:
                setattr(self, name, getattr(self, name) + getattr(usage, name))

    def _add_latency(self, microseconds: int) -> None:
        if microseconds >= 0:
            self.latency_count += 1
            self.latency_microseconds += microseconds
            self.histogram += make_histogram(microseconds)

    def add_stored(self, sums: Any) -> None:
        """Add sums in the order of `SUMS`. Databases return them as decimals, too."""
        for name, value in zip(SUMS, sums, strict=True):
            setattr(self, name, getattr(self, name) + int(value))


def find_dimensions(row: Any) -> Group:
    """Return the dimensions of a selected receipt."""
    return (
        row.project_id,
        row.key_id,
        row.credential_id,
        row.provider,
        name_model(row),
        row.managed,
    )


def name_model(row: Any) -> str:
    """Return the model as the caller named it, without the provider, else the one that served."""
    return (row.model_requested or row.model_served).removeprefix(f"{row.provider}/")


def find_key(row: Any) -> Group:
    """Return the key of the quarter's roll-up row to which a selected receipt belongs."""
    return (row.organization_id, floor_quarter(row.created_at), *find_dimensions(row))
