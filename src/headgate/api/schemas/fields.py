"""Types of fields that several schemas share, and conversions of times."""

from __future__ import annotations

import datetime
import enum
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from headgate.accounts.model import NAME_CHARACTERS_MAX, NAME_PATTERN

ResponseT = TypeVar("ResponseT", bound=msgspec.Struct)

Timestamp = Annotated[
    datetime.datetime,
    Meta(description="An RFC 3339 time. Without an offset it is in UTC."),
]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=NAME_CHARACTERS_MAX,
        description="One line of printable characters.",
        # For the document only: `accounts.model.check_name` checks it, with a clearer message.
        extra_json_schema={"pattern": NAME_PATTERN},
    ),
]
MetadataName = Annotated[str, Meta(min_length=1, max_length=64)]
MetadataText = Annotated[str, Meta(max_length=512)]
Labels = Annotated[dict[MetadataName, MetadataText], Meta(max_length=32)]
Metadata = Annotated[
    dict[MetadataName, MetadataText | int | float | bool | None], Meta(max_length=32)
]


class Empty(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters and no body."""


class AnyQuery(msgspec.Struct, frozen=True):
    """Parameters that depend on what is run. The operation reads them from the request."""


class RawBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body of any content, as somebody else wrote it. The operation reads its bytes from
    `RequestContext.raw`."""


class FileBody(msgspec.Struct, frozen=True):
    """A file, whose bytes are the body of the response."""

    content: bytes
    media_type: str
    name: str


def build_response(kind: type[ResponseT], record: object, /, **fields: Any) -> ResponseT:
    """Build a response from `fields`, and for all others from the record's fields of the same name.
    Of these, times in unix seconds (`..._at`), enumerations and tuples are converted."""
    for name in kind.__struct_fields__:
        if name not in fields:
            fields[name] = _convert_field(name, getattr(record, name))
    return kind(**fields)


def _convert_field(name: str, value: Any) -> Any:
    if isinstance(value, int | float) and name.endswith("_at"):
        return to_datetime(value)
    if isinstance(value, enum.Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def to_datetime(at: float) -> datetime.datetime:
    """Convert unix seconds to a time in UTC."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC)


def to_optional_datetime(at: float | None) -> datetime.datetime | None:
    return None if at is None else to_datetime(at)


def to_timestamp(at: datetime.datetime | None) -> float | None:
    return None if at is None else at.timestamp()
