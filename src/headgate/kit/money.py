"""Exact money: integers in nano-dollars (1 USD = 1,000,000,000), one rounding (law 2)."""

from __future__ import annotations

from decimal import Decimal

NANO_PER_DOLLAR = 1_000_000_000


def divide_half_up(amount: int, divisor: int) -> int:
    """The quotient rounded to the nearest integer, halves away from zero; `divisor` is positive."""
    sign = -1 if amount < 0 else 1
    return sign * ((2 * abs(amount) + divisor) // (2 * divisor))


def nano_from_dollars(dollars: Decimal | str) -> int:
    """An exact amount of dollars as nano-dollars; ValueError where it has a finer part."""
    nano = Decimal(dollars) * NANO_PER_DOLLAR
    if nano != nano.to_integral_value():
        message = f"{dollars} dollars is not a whole number of nano-dollars"
        raise ValueError(message)
    return int(nano)


def format_dollars(nano: int) -> str:
    """Nano-dollars as a decimal string of dollars with nine places (`0.000012500`)."""
    whole, rest = divmod(abs(nano), NANO_PER_DOLLAR)
    return f"{'-' if nano < 0 else ''}{whole}.{rest:09d}"
