"""Responses of a provider: retry advice, errors of any shape, lists of models."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from headgate.gateway import listing
from headgate.llm import provider_errors
from headgate.relay.upstream import InvalidProviderResponseError
from rigs.fuzz.checks.chunks import split_first_byte

NAMES = (
    b"retry-after",
    b"retry-after-ms",
    b"x-ratelimit-reset-requests",
    b"x-ratelimit-reset-tokens",
    b"date",
)
NOW = 1_800_000_000.0


def check_advice(data: bytes) -> None:
    """Check that retry advice is a finite time from now on, or none."""
    lines = [line.partition(b":") for line in data.split(b"\n")]
    headers = [(NAMES[len(name) % len(NAMES)], value) for name, _, value in lines]
    for found in (
        provider_errors.parse_retry_after(headers, NOW),
        provider_errors.parse_reset(headers),
    ):
        assert found is None or (math.isfinite(found) and found >= 0)
    text = data.decode("latin-1")
    duration = provider_errors.parse_duration(text)
    assert duration is None or (math.isfinite(duration) and duration >= 0)


def check_error_response(data: bytes) -> None:
    """Check that an error of any shape is categorized and bounded, and never raises."""
    order, body = split_first_byte(data)
    status = 400 + order % 200
    fault = provider_errors.classify(status, body)
    assert fault.status == status
    assert len(fault.message) <= provider_errors.MESSAGE_CHARACTERS_MAX
    if status >= 500 and fault.category is not provider_errors.ErrorCategory.QUOTA:
        assert fault.category is provider_errors.ErrorCategory.SERVER


def check_models(data: bytes) -> None:
    """Check that a list of models is read or refused, and rows gain metadata and lose nothing."""
    try:
        listed = listing.read(data)
    except InvalidProviderResponseError:
        listed = None
    if listed is not None:
        rows = [listing.splice(row.raw, b'{"a":1}') for row in listed.rows]
        again = listing.read(listing.write(listed.fields, rows))
        assert [row.id for row in again.rows] == [row.id for row in listed.rows]
        for row, raw in zip(listed.rows, rows, strict=True):
            _check_spliced(row.raw, raw)
    try:
        spliced = listing.splice(data, b'{"a":1}')
    except InvalidProviderResponseError:
        return
    _check_spliced(data, spliced)


def _check_spliced(before: bytes, after: bytes) -> None:
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    known: dict[str, Any] = {**decode(before), "headgate": msgspec.Raw(b'{"a":1}')}
    assert {name: bytes(raw) for name, raw in decode(after).items()} == {
        name: bytes(raw) for name, raw in known.items()
    }
