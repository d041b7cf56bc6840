"""Groups of receipts: by their dimensions, and by the metadata that callers sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from headgate.metering.model.usage import (
    DIMENSIONS,
    Group,
    InvalidGroupError,
    find_dimensions,
)
from headgate.metering.model.zones import Granularity

METADATA = "metadata."
"""The beginning of a field of `group_by` that names a field of the metadata."""

TIMES: Mapping[str, Granularity] = {"hour": "hour", "day": "day", "month": "month"}
FIELDS: Mapping[str, str] = {
    "project": "project_id",
    "key": "key_id",
    "credential": "credential_id",
    "provider": "provider",
    "model": "model",
    "managed": "managed",
}
"""The names of `group_by`, and the dimensions of receipts that they are."""
GROUP_BY_MAX = 8

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def parse_group_by(names: Sequence[str]) -> tuple[Granularity | None, tuple[str, ...]]:
    """Return the periods and the dimensions that names such as `day`, `key` and `metadata.team`
    group by. Raise `InvalidGroupError`."""
    times: list[Granularity] = [TIMES[name] for name in names if name in TIMES]
    groups = [name for name in names if name not in TIMES]
    for name in groups:
        if name not in FIELDS and not (is_metadata(name) and name != METADATA):
            known = ", ".join((*TIMES, *FIELDS, f"{METADATA}<name>"))
            raise InvalidGroupError(
                f"Usage cannot be grouped by {name[:100]!r}. The names are {known}.",
                param="group_by",
            )
    if len(times) > 1 or len(set(groups)) < len(groups) or len(groups) > GROUP_BY_MAX:
        raise InvalidGroupError(
            "Name one of hour, day and month, and every other name once, at most "
            f"{GROUP_BY_MAX} of them.",
            param="group_by",
        )
    return times[0] if times else None, tuple(FIELDS.get(name, name) for name in groups)


def is_metadata(name: str) -> bool:
    return name.startswith(METADATA)


def build_picker(group_by: Sequence[str]) -> Callable[[Any], Group]:
    """Return a function that finds the group of a selected receipt. Metadata that it does not have
    are empty texts."""
    picks = [
        name.removeprefix(METADATA) if is_metadata(name) else DIMENSIONS.index(name)
        for name in group_by
    ]
    has_metadata = any(map(is_metadata, group_by))

    def pick(row: Any) -> Group:
        if not picks:
            return ()
        values = find_dimensions(row)
        metadata = read_metadata(row) if has_metadata else {}
        return tuple(
            values[each] if isinstance(each, int) else metadata.get(each, "") for each in picks
        )

    return pick


def read_metadata(row: Any) -> dict[str, str]:
    """Return the metadata of a selected receipt."""
    found = _decode(row.metadata) if row.metadata else {}
    return {name: str(value) for name, value in found.items()}


def matches_metadata(row: Any, wanted: Mapping[str, str]) -> bool:
    """Return whether a selected receipt has all these metadata."""
    return not wanted or wanted.items() <= read_metadata(row).items()


def encode_pair(name: str, value: str) -> str:
    """Return how a name with its value is written in the metadata of receipts."""
    return msgspec.json.encode({name: value}).decode()[1:-1]
