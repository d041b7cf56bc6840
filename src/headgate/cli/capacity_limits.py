"""Limits of capacity as commands write and show them: `50 requests/minute by source-ip`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import typer

from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.capacity_limits import LIFETIME, METADATA, CapacityEntry

Limits = Annotated[
    list[str] | None,
    typer.Argument(
        help="Such as '50 requests/minute', '2000000 tokens/day by source-ip', "
        "'10 requests/hour by metadata.team', '1000 requests/lifetime', 'discovered'."
    ),
]
Clear = Annotated[bool, typer.Option("--clear", help="Remove all limits.")]
DISCOVERED = "discovered"
FORM = re.compile(
    r"(?P<number>\d{1,15}) (?P<unit>requests|tokens)/(?P<period>[a-z]+)"
    r"(?: by (?P<dimension>source-ip|metadata\.(?P<field>\S{1,64})))?"
)


class InvalidCapacityError(HeadgateError):
    """A limit on the command line cannot be read.

    Write it as `50 requests/minute`, or with `by source-ip` or `by metadata.<field>` at its end.
    """

    kind = Kind.INVALID
    code = "invalid_capacity"


def parse_limits(texts: Iterable[str]) -> list[CapacityEntry]:
    """Return the limits. Raise `InvalidCapacityError`."""
    return [_parse(text.strip()) for text in texts]


def describe_limits(entries: Iterable[CapacityEntry]) -> list[str]:
    """Return the limits as they are written on the command line, one for each unit."""
    lines: list[str] = []
    for entry in entries:
        suffix = "" if entry.enabled else " (off)"
        if entry.discovered:
            lines.append(f"{DISCOVERED}{suffix}")
        by = ""
        if entry.dimension == METADATA:
            by = f" by metadata.{entry.dimension_field}"
        elif entry.dimension is not None:
            by = f" by {entry.dimension}"
        for unit, number in (("requests", entry.requests), ("tokens", entry.tokens)):
            if number is not None:
                lines.append(f"{number} {unit}/{entry.period}{by}{suffix}")
    return lines


def _parse(text: str) -> CapacityEntry:
    if text == DISCOVERED:
        return CapacityEntry(period="minute", discovered=True)
    match = FORM.fullmatch(text)
    fields: dict[str, Any] = {}
    if match is not None:
        fields = {"period": match["period"], match["unit"]: int(match["number"])}
        if match["field"]:
            fields |= {"dimension": METADATA, "dimension_field": match["field"]}
        elif match["dimension"]:
            fields["dimension"] = match["dimension"]
    try:
        return msgspec.convert(fields, CapacityEntry)
    except msgspec.ValidationError as error:
        raise InvalidCapacityError(
            f"{text!r} is not a limit: write for example '50 requests/minute', "
            f"'2000 tokens/day by source-ip' or '5 requests/{LIFETIME} by metadata.team'. The "
            "periods are minute, hour, day, week, month and lifetime."
        ) from error
