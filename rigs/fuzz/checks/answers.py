"""Heads and refusals of a provider: advice to wait, errors of any shape."""

from __future__ import annotations

import math

from headgate.llm import errors
from rigs.fuzz.checks.cuts import split_order

NAMES = (
    b"retry-after",
    b"retry-after-ms",
    b"x-ratelimit-reset-requests",
    b"x-ratelimit-reset-tokens",
    b"date",
)
NOW = 1_800_000_000.0


def check_advice(data: bytes) -> None:
    """Advice to wait is a finite time from now on, or none."""
    lines = [line.partition(b":") for line in data.split(b"\n")]
    headers = [(NAMES[len(name) % len(NAMES)], value) for name, _, value in lines]
    for found in errors.parse_retry_after(headers, NOW), errors.parse_reset(headers):
        assert found is None or (math.isfinite(found) and found >= 0)
    text = data.decode("latin-1")
    duration = errors.parse_duration(text)
    assert duration is None or (math.isfinite(duration) and duration >= 0)


def check_refusal(data: bytes) -> None:
    """An error of any shape is told apart and bounded, and never raises."""
    order, body = split_order(data)
    status = 400 + order % 200
    fault = errors.classify(status, body)
    assert fault.status == status
    assert len(fault.message) <= errors.MESSAGE_CHARACTERS_MAX
    if status >= 500 and fault.verdict is not errors.Verdict.QUOTA:
        assert fault.verdict is errors.Verdict.SERVER
