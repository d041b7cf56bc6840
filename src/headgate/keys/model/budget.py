"""The values of monthly budgets that keys, projects and organizations share."""

from __future__ import annotations

from collections.abc import Sequence

THRESHOLDS = (50, 80, 100)
"""The percentages of a budget that are announced unless others are set."""
THRESHOLDS_MAX = 10
PERCENT_MAX = 100
LIMIT_NANO_END = 10**18
"""A budget is less than a billion dollars."""


def find_invalid_threshold(thresholds: Sequence[int]) -> str | None:
    """Return what is wrong with a list of thresholds, or None."""
    if len(thresholds) > THRESHOLDS_MAX or len(set(thresholds)) < len(thresholds):
        return f"A budget has at most {THRESHOLDS_MAX} different thresholds."
    if not all(0 < each <= PERCENT_MAX for each in thresholds):
        return f"A threshold is a percentage of the budget, 1 to {PERCENT_MAX}."
    return None
