"""Compute exact money: integers in nano-dollars (1 USD = 1,000,000,000), one rounding (law 2)."""

from __future__ import annotations

from decimal import Decimal

NANO_PER_DOLLAR = 1_000_000_000


def divide_half_up(amount: int, divisor: int) -> int:
    """Divide and round to the nearest integer, halves away from zero; `divisor` is positive."""
    sign = -1 if amount < 0 else 1
    return sign * ((2 * abs(amount) + divisor) // (2 * divisor))


def nano_from_dollars(dollars: Decimal | str) -> int:
    """Convert an exact amount of dollars to nano-dollars. Raise ValueError for finer amounts."""
    nano = Decimal(dollars) * NANO_PER_DOLLAR
    if nano != nano.to_integral_value():
        message = f"{dollars} dollars is not a whole number of nano-dollars"
        raise ValueError(message)
    return int(nano)


def format_dollars(nano: int) -> str:
    """Format nano-dollars as dollars with nine decimal places (`0.000012500`)."""
    whole, rest = divmod(abs(nano), NANO_PER_DOLLAR)
    return f"{'-' if nano < 0 else ''}{whole}.{rest:09d}"
