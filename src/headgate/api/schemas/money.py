"""Amounts of money as the platform API reads and writes them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from headgate.kit.money import format_dollars

CENTS = 2

Dollars = Annotated[
    str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$", description="US dollars, such as `25.00`.")
]


def show_dollars(nano: int) -> str:
    """Format nano-dollars with two decimal places, or as many more as the exact amount needs."""
    whole, _, parts = format_dollars(nano).partition(".")
    return f"{whole}.{parts.rstrip('0').ljust(CENTS, '0')}"
