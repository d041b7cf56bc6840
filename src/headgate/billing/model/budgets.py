"""The rules of monthly budgets, without I/O. All amounts are nano-dollars, all months are UTC."""

from __future__ import annotations

import calendar
import time

import msgspec

from headgate.relay.ports import Budget

EXACT, PROVISIONAL, STALE = "exact", "provisional", "stale"
"""What a counter's `used` is: the sum of all receipts; the sum at its creation, while other
processes may not know the budget yet; or one that missed receipts while there was no budget."""


def name_month(unix_seconds: float) -> str:
    """Return the calendar month (UTC) of a time, as `2026-11`."""
    parts = time.gmtime(unix_seconds)
    return f"{parts.tm_year:04d}-{parts.tm_mon:02d}"


def start_of_month(month: str) -> int:
    """Return the unix seconds at which a month begins."""
    return calendar.timegm((int(month[:4]), int(month[5:]), 1, 0, 0, 0))


def next_month(month: str) -> str:
    year, number = int(month[:4]), int(month[5:])
    return f"{year + number // 12:04d}-{number % 12 + 1:02d}"


def previous_month(month: str) -> str:
    return name_month(start_of_month(month) - 1)


def end_of_month(month: str) -> int:
    """Return the unix seconds at which a month is over and its budgets are reset."""
    return start_of_month(next_month(month))


def format_time(unix_seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_seconds))


def name_counter(scope: str, scope_id: str, month: str) -> str:
    return f"{scope}:{scope_id}:{month}"


def parse_thresholds(text: str) -> tuple[int, ...]:
    """Return the percentages of a text such as `50,80,100`."""
    return tuple(int(part) for part in text.split(",") if part)


def format_thresholds(thresholds: tuple[int, ...]) -> str:
    return ",".join(map(str, thresholds))


class BudgetMonth(msgspec.Struct):
    """Count what one scope has used and what is held for it in one month.

    `used_nano` and `held_nano` count every call, `managed_used_nano` and `managed_held_nano` those
    that the wallet pays: so a budget may change what it counts. `announced` are the thresholds that
    were announced in this month, as a text.
    """

    id: str
    scope: str
    scope_id: str
    organization_id: str
    month: str
    used_nano: int = 0
    held_nano: int = 0
    managed_used_nano: int = 0
    managed_held_nano: int = 0
    announced: str = ""
    state: str = EXACT

    def find_used(self, budget: Budget) -> int:
        return self.managed_used_nano if budget.managed_only else self.used_nano

    def find_held(self, budget: Budget) -> int:
        return self.managed_held_nano if budget.managed_only else self.held_nano

    def find_left(self, budget: Budget) -> int:
        """Return what the budget still allows, below 0 where its limit was lowered."""
        return budget.limit_nano - self.find_used(budget) - self.find_held(budget)

    def add_held(self, amount_nano: int, *, managed: bool) -> None:
        self.held_nano += amount_nano
        if managed:
            self.managed_held_nano += amount_nano

    def add_used(self, cost_nano: int, *, managed: bool) -> None:
        self.used_nano += cost_nano
        if managed:
            self.managed_used_nano += cost_nano

    def announce(self, budget: Budget) -> list[int]:
        """Return the thresholds that are reached and were not announced in this month, and note
        that they are now."""
        if not budget.limit_nano or self.find_used(budget) <= 0:
            return []
        known = parse_thresholds(self.announced)
        reached = [
            percent
            for percent in budget.thresholds
            if self.find_used(budget) * 100 >= budget.limit_nano * percent and percent not in known
        ]
        if reached:
            self.announced = format_thresholds((*known, *reached))
        return reached


def open_counter(budget: Budget, organization_id: str, month: str) -> BudgetMonth:
    return BudgetMonth(
        name_counter(budget.scope, budget.scope_id, month),
        budget.scope,
        budget.scope_id,
        organization_id,
        month,
    )


SCOPE_FIELDS = (("key", "key_id"), ("project", "project_id"), ("organization", "organization_id"))
"""The scopes of budgets, innermost first, each with the field of a call that names its object."""
