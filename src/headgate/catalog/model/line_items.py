"""Split the cost of a usage into line items: quantity, rate, amount.

The cost itself is computed by `NanoRates.cost`, in one sum. This is a second way to the same
number, which shows each part, and which tests and recomputations compare with the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from headgate.catalog.model.rates import NanoRates, PriceRow
from headgate.kit.money import divide_half_up
from headgate.llm.usage import Usage

PER_MILLION = 1_000_000
PER_MINUTE = 60_000
"""Minutes are billed by the millisecond."""
PER_ONE = 1
COMMON = 3_000_000
"""The least common multiple of all units, over which their amounts are added up."""


class LineItem(msgspec.Struct, frozen=True):
    """Hold one priced part of a call.

    `name` is that of the rate in the price book; `rate_nano` applies to `per` units and is None for
    a part without a price. `amount_nano` is rounded to the nano-dollar by itself.
    """

    name: str
    unit: str
    quantity: int
    rate_nano: int | None
    per: int
    amount_nano: int


class Itemization(msgspec.Struct, frozen=True):
    """Hold the line items of a call and its cost.

    `rounding_nano` is what the cost, whose exact sum is rounded once, differs from the sum of the
    amounts. `tier` and `above_input_tokens` (-1: none) say which rates of the price applied.
    """

    items: tuple[LineItem, ...]
    cost_nano: int
    tier: str | None = None
    above_input_tokens: int = -1

    @property
    def rounding_nano(self) -> int:
        return self.cost_nano - sum(item.amount_nano for item in self.items)


def itemize(price: PriceRow, usage: Usage, service_tier: str | None) -> Itemization | None:
    """Return the line items of a usage at a price. None if the price lacks a rate for any of it, or
    if details exceed their total."""
    rates = price.find_rates(usage, service_tier)
    if rates is None:
        return None
    parts = [part for part in _list_parts(usage, rates) if part[2]]
    if any(rate is None or quantity < 0 for _, _, quantity, rate, _ in parts):
        return None
    items = [_make_item(*part) for part in parts]
    exact = sum([item.quantity * (item.rate_nano or 0) * (COMMON // item.per) for item in items])
    cost_nano = divide_half_up(exact, COMMON)
    return Itemization(tuple(items), cost_nano, service_tier or "default", rates.above_input_tokens)


def make_single(name: str, amount_nano: int) -> Itemization:
    """Return the one line item of an amount that was charged as a whole, such as a hold."""
    item = LineItem(name, "request", 1, amount_nano, PER_ONE, amount_nano)
    return Itemization((item,), amount_nano)


def add_unpriced(itemization: Itemization, names: Sequence[tuple[str, int]]) -> Itemization:
    """Add parts without a price, which cost nothing, each as (name of a tool, calls)."""
    unpriced = [
        LineItem(f"tool_calls.{name}", "call", count, None, PER_ONE, 0) for name, count in names
    ]
    return msgspec.structs.replace(itemization, items=(*itemization.items, *unpriced))


def _make_item(name: str, unit: str, quantity: int, rate: int | None, per: int) -> LineItem:
    assert rate is not None, "parts without a rate are refused before"
    return LineItem(name, unit, quantity, rate, per, divide_half_up(quantity * rate, per))


Part = tuple[str, str, int, int | None, int]
"""Name, unit, quantity, rate in nano-dollars, and the units that the rate is for."""


def _list_parts(usage: Usage, rates: NanoRates) -> Iterator[Part]:
    details_in = {
        "cached_input": usage.cached_tokens,
        "cache_write": usage.cache_write_tokens,
        "input_audio": usage.input_audio_tokens,
        "input_image": usage.input_image_tokens,
    }
    details_out = {
        "reasoning": usage.reasoning_tokens,
        "output_audio": usage.output_audio_tokens,
        "output_image": usage.output_image_tokens,
    }
    tokens = {
        "input": usage.input_tokens - sum(details_in.values()),
        **details_in,
        "output": usage.output_tokens - sum(details_out.values()),
        **details_out,
    }
    for name, count in tokens.items():
        yield name, "token", count, getattr(rates, name), PER_MILLION
    # Tokens that were reported measure what has no rate of its own.
    is_measured = bool(usage.input_tokens or usage.output_tokens)
    for name, unit, count, per in (
        ("per_image", "image", usage.images, PER_ONE),
        ("per_minute", "millisecond", usage.audio_milliseconds, PER_MINUTE),
        ("per_million_characters", "character", usage.characters, PER_MILLION),
    ):
        rate = getattr(rates, name)
        if rate is not None or not is_measured:
            yield name, unit, count, rate, per
    for name, count in usage.tool_calls.items():
        yield f"tool_calls.{name}", "call", count, rates.tool_calls.get(name), PER_ONE
    if rates.per_request:
        yield "per_request", "request", 1, rates.per_request, PER_ONE
