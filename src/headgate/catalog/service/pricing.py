"""Compose the price at a time from the rows of the price book."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal

from headgate.catalog.model.price import (
    CURRENCY,
    DOLLARS_MAX,
    EVERY_MODEL,
    MICROSECONDS,
    RATES,
    DollarRates,
    PriceEntry,
    PriceName,
)
from headgate.catalog.model.rates import NanoRates, PriceRow
from headgate.kit.money import nano_from_dollars

CACHE_WRITE_SURCHARGE = Decimal("1.25")


def compose(entries: Sequence[PriceEntry]) -> list[tuple[float, PriceRow]]:
    """Return every price that the rows of one model ever add up to, newest first, with its start in
    unix seconds.

    `entries` are the model's own rows and those of `EVERY_MODEL`. Raise `ValueError` for invalid
    rates.
    """
    own = [entry.effective_from for entry in entries if entry.model != EVERY_MODEL]
    if not own:
        return []
    first = min(own)
    moments = {max(first, entry.effective_from) for entry in entries}
    return [
        (
            moment / MICROSECONDS,
            compose_row([entry for entry in entries if entry.effective_from <= moment]),
        )
        for moment in sorted(moments, reverse=True)
    ]


def compose_row(known: Sequence[PriceEntry]) -> PriceRow:
    """Compose and name the price of rows in force. A row without rates removes its place from
    the price."""
    shipped = [entry.effective_from for entry in known if not entry.number]
    stored = [entry for entry in known if entry.number]
    model = next(entry for entry in known if entry.model != EVERY_MODEL)
    name = PriceName(
        model.integration,
        model.model,
        max(shipped, default=None),
        max((entry.effective_from for entry in stored), default=0),
        max((entry.number for entry in stored), default=0),
    )
    current = select_current(known)
    every = current.pop((EVERY_MODEL, *_DEFAULT), None)
    tools = every.rates.tool_calls if every else {}
    tiers: dict[str, list[NanoRates]] = {}
    for entry in sorted(current.values(), key=lambda entry: -entry.above_input_tokens):
        if entry.model != EVERY_MODEL and entry.rates.amounts():
            tiers.setdefault(entry.tier, []).append(to_nano_rates(entry, {**tools}))
    return PriceRow(str(name), tiers)


def select_current(known: Iterable[PriceEntry]) -> dict[tuple[str, str, int], PriceEntry]:
    """Return, of all rows in force, the one that applies to each (model, tier, threshold)."""
    current: dict[tuple[str, str, int], PriceEntry] = {}
    for entry in sorted(known, key=lambda entry: entry.precedence):
        current[entry.model, *entry.place] = entry
    return current


def to_nano_rates(entry: PriceEntry, tools: dict[str, Decimal] | None = None) -> NanoRates:
    """Return the rates in nano-dollars, including derived ones. Raise `ValueError`."""
    stated = entry.rates
    problem = find_invalid_rate(entry.currency, stated)
    if problem is not None:
        raise ValueError(problem[1])
    dollars = {name: getattr(stated, name) for name in RATES} | derive_rates(stated)
    return NanoRates(
        above_input_tokens=entry.above_input_tokens,
        tool_calls={
            name: nano_from_dollars(rate)
            for name, rate in {**(tools or {}), **stated.tool_calls}.items()
        },
        **{name: nano_from_dollars(rate) for name, rate in dollars.items() if rate is not None},
    )


def derive_rates(stated: DollarRates) -> dict[str, Decimal]:
    """Return the rates that a row does not state and that follow from those it states."""
    followed: dict[str, Decimal] = {}
    if stated.input is not None and stated.input.is_finite():
        if stated.cached_input is None:
            followed["cached_input"] = stated.input
        if stated.cache_write is None:
            surcharged = stated.input * CACHE_WRITE_SURCHARGE
            followed["cache_write"] = surcharged.quantize(_NANO, ROUND_HALF_UP)
    if stated.reasoning is None and stated.output is not None:
        followed["reasoning"] = stated.output
    return followed


def find_invalid_rate(currency: str, stated: DollarRates) -> tuple[str, str] | None:
    """Return the first invalid field and the reason; None if all are valid."""
    if currency != CURRENCY:
        return "currency", f"Rates are amounts of {CURRENCY}, not of {currency!r}"
    for name, rate in stated.amounts().items():
        if not rate.is_finite() or rate < 0 or rate > DOLLARS_MAX:
            return (
                f"rates.{name}",
                f"`{name}`: rates are amounts from 0 to {DOLLARS_MAX}, not {rate}",
            )
        try:
            nano_from_dollars(rate)
        except (ValueError, ArithmeticError) as error:
            return f"rates.{name}", f"`{name}`: {error}"
    return None


_DEFAULT = ("default", -1)
_NANO = Decimal("1e-9")
