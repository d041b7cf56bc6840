"""Monthly budgets as owners set them, and their state in a month. Amounts are nano-dollars."""

from __future__ import annotations

import msgspec

from headgate.keys.model.budget import LIMIT_NANO_END, THRESHOLDS, find_invalid_threshold
from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.ports import Budget

KEY, PROJECT, ORGANIZATION = "key", "project", "organization"
SCOPES = (ORGANIZATION, PROJECT, KEY)
"""The scopes of budgets, outermost first."""


class BudgetLimit(msgspec.Struct, frozen=True, kw_only=True):
    """Represent the budget of a project, an organization or a key. Times are unix seconds; the
    budget of a key is part of the key, which has the `version`."""

    scope: str
    scope_id: str
    organization_id: str
    limit_nano: int
    managed_only: bool = False
    thresholds: tuple[int, ...] = THRESHOLDS
    version: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    name: str = ""
    """The name of the object."""

    @property
    def budget(self) -> Budget:
        return Budget(
            self.scope, self.scope_id, self.limit_nano, self.managed_only, self.thresholds
        )


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a budget with what was used of it in a month (`2026-11`, UTC), what is held for running
    calls, and when it is reset."""

    limit: BudgetLimit
    month: str
    used_nano: int
    held_nano: int
    resets_at: float

    @property
    def used_percent(self) -> float | None:
        """Return the used part with one decimal place; None for a budget of 0."""
        if not self.limit.limit_nano:
            return None
        return round(100 * self.used_nano / self.limit.limit_nano, 1)

    @property
    def remaining_nano(self) -> int:
        return max(0, self.limit.limit_nano - self.used_nano - self.held_nano)


class BudgetNotFoundError(HeadgateError):
    """There is no budget for this object.

    List the budgets with `headgate budgets list` or `GET /api/budgets`, or set one.
    """

    kind = Kind.MISSING
    code = "not_found"


class InvalidBudgetError(HeadgateError):
    """A field of the budget is invalid.

    Correct the field that the message names.
    """

    kind = Kind.INVALID
    code = "invalid_budget"


def check_limit(limit: BudgetLimit) -> None:
    """Raise `InvalidBudgetError` for a field that is out of range."""
    if not 0 <= limit.limit_nano < LIMIT_NANO_END:
        raise InvalidBudgetError("A budget is 0 to 999999999 dollars.", param="limit")
    problem = find_invalid_threshold(limit.thresholds)
    if problem is not None:
        raise InvalidBudgetError(problem, param="thresholds")
