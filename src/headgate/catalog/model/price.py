"""Rows of the price book: their fields, their precedence, and the names of prices in force.

A row is never changed. The price at a time is composed of the rows in force then, and its name is
enough to find the same rates again, whatever was added later:

    openai/gpt-5.4@2026-10-12                          the shipped rows up to that day,
    openai/gpt-5.4@2026-10-12/2026-12-01T00:00:00Z+7   and the stored ones up to number 7 and then
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headgate.kit.errors import HeadgateError, Kind

CURRENCY = "USD"
MICROSECONDS = 1_000_000
DEFAULT_TIER = "default"
EVERY_MODEL = "*"
"""The model id of rows whose prices of tool calls apply to every model of an integration."""
OPERATOR = "operator"
"""The source of rows that take precedence over every other, from their time on."""
NO_THRESHOLD = -1
TIER = r"^[a-z][a-z0-9_]{0,31}$"
PRICED_MODEL = r"^(\*|[A-Za-z0-9][A-Za-z0-9._:/@-]{0,199})$"
DOLLARS_MAX = Decimal("999999.999999999")
_NAME = re.compile(
    r"(?P<integration>[a-z][a-z0-9_]*)/(?P<model>.+)@(?P<day>\d{4}-\d\d-\d\d|)"
    r"(?:/(?P<moment>[0-9T:.+-]+Z)\+(?P<number>\d{1,18}))?"
)


class InvalidPriceError(HeadgateError):
    """A field of the new price is invalid.

    Correct the field that `loc` names.
    """

    kind = Kind.UNPROCESSABLE
    code = "invalid_price"


class PriceNotFoundError(HeadgateError):
    """There is no price of this name.

    List the prices with `headgate prices list`.
    """

    kind = Kind.MISSING
    code = "price_not_found"


class DollarRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hold the rates of a row in dollars; None where the row states none.

    Rates are for a million tokens of each class, an image, a minute of audio, a million characters,
    a call of a tool, and for each request regardless of its usage.
    """

    input: Decimal | None = None
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    input_audio: Decimal | None = None
    input_image: Decimal | None = None
    output: Decimal | None = None
    reasoning: Decimal | None = None
    output_audio: Decimal | None = None
    output_image: Decimal | None = None
    per_image: Decimal | None = None
    per_minute: Decimal | None = None
    per_million_characters: Decimal | None = None
    per_request: Decimal | None = None
    tool_calls: dict[str, Decimal] = {}

    def amounts(self) -> dict[str, Decimal]:
        """Return the stated rates by name; those of tools are named `tool_calls.<name>`."""
        stated = {name: getattr(self, name) for name in RATES}
        tools = {f"tool_calls.{name}": rate for name, rate in self.tool_calls.items()}
        return {**{name: rate for name, rate in stated.items() if rate is not None}, **tools}


RATES = tuple(name for name in DollarRates.__struct_fields__ if name != "tool_calls")


class PriceBlock(DollarRates, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hold the rates of a model since the beginning of a day in UTC, a `[[price]]` block of a file.

    `tier` is the provider's service tier. With `above_input_tokens` the rates apply to the whole of
    each request that has more input than that.
    """

    model: Annotated[str, Meta(pattern=PRICED_MODEL)]
    effective_from: datetime.date
    source: str
    currency: str = CURRENCY
    tier: Annotated[str, Meta(pattern=TIER)] = DEFAULT_TIER
    above_input_tokens: int = NO_THRESHOLD


class PriceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Represent one row of the price book. Times are in microseconds since 1970. `number` counts
    the stored rows in the order in which they were written; shipped rows have 0."""

    integration: str
    model: str
    tier: str = DEFAULT_TIER
    above_input_tokens: int = NO_THRESHOLD
    effective_from: int
    currency: str = CURRENCY
    rates: DollarRates
    source: str
    number: int = 0
    created_by: str = ""
    created_at: int = 0

    @property
    def place(self) -> tuple[str, int]:
        """Return service tier and threshold: rows of one model with the same pair replace each
        other."""
        return self.tier, self.above_input_tokens

    @property
    def precedence(self) -> tuple[bool, int, int]:
        """Return the sort key by which the greatest of the rows in force for one place applies."""
        return self.source == OPERATOR, self.effective_from, self.number


class PriceName(msgspec.Struct, frozen=True):
    """Represent the parsed name of a composed price. Times are in microseconds since 1970.

    The price consists of the shipped rows up to `shipped_until` (None: no shipped row), and of the
    stored rows up to `number` that are in force at `stored_until`.
    """

    integration: str
    model: str
    shipped_until: int | None
    stored_until: int = 0
    number: int = 0

    def covers(self, entry: PriceEntry) -> bool:
        """Return whether a row was written and in force when the price was named."""
        if not entry.number:
            return self.shipped_until is not None and entry.effective_from <= self.shipped_until
        return entry.number <= self.number and entry.effective_from <= self.stored_until

    def __str__(self) -> str:
        day = "" if self.shipped_until is None else format_moment(self.shipped_until)[:10]
        stored = f"/{format_moment(self.stored_until)}+{self.number}" if self.number else ""
        return f"{self.integration}/{self.model}@{day}{stored}"


def parse_price_name(text: str) -> PriceName:
    """Parse a `price_id`. Raise `PriceNotFoundError` if it is malformed."""
    found = _NAME.fullmatch(text)
    try:
        if found is not None:
            day, moment = found["day"], found["moment"]
            return PriceName(
                found["integration"],
                found["model"],
                parse_moment(day) if day else None,
                parse_moment(moment) if moment else 0,
                int(found["number"] or 0),
            )
    except ValueError:
        pass
    raise PriceNotFoundError(f"There is no price {text[:300]!r}.", param="price_id")


def parse_moment(text: str) -> int:
    """Return microseconds since 1970 of a day or an RFC 3339 time in UTC. Raise `ValueError`."""
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) // datetime.timedelta(microseconds=1)


def format_moment(at: int) -> str:
    """Return the RFC 3339 time in UTC of microseconds since 1970."""
    moment = _EPOCH + datetime.timedelta(microseconds=at)
    return moment.isoformat().replace("+00:00", "Z")


def decode_rates(text: str) -> DollarRates:
    return msgspec.json.decode(text, type=DollarRates)


def encode_rates(rates: DollarRates) -> str:
    """Return the stored form: a JSON object of exact decimal strings, without unstated rates."""
    return msgspec.json.encode(format_rates(rates), order="sorted").decode()


def format_rates(rates: DollarRates) -> dict[str, Any]:
    """Return the stated rates as decimal strings without an exponent."""
    shown: dict[str, Any] = {
        name: f"{rate:f}" for name in RATES if (rate := getattr(rates, name)) is not None
    }
    if rates.tool_calls:
        shown["tool_calls"] = {name: f"{rate:f}" for name, rate in rates.tool_calls.items()}
    return shown


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
