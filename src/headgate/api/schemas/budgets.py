"""Budgets as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from headgate.api.schemas.fields import to_datetime
from headgate.api.schemas.money import Dollars, show_dollars
from headgate.api.schemas.pages import Page, PageQuery
from headgate.billing.model.budget_limits import BudgetState
from headgate.keys.model.budget import PERCENT_MAX, THRESHOLDS, THRESHOLDS_MAX

Scope = Literal["organization", "project", "key"]
Thresholds = Annotated[
    tuple[Annotated[int, Meta(ge=1, le=PERCENT_MAX)], ...], Meta(max_length=THRESHOLDS_MAX)
]


class BudgetQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select budgets."""

    scope: Scope | None = None


class BudgetSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A budget for each calendar month (UTC). Fields that are missing get their default."""

    limit: Dollars
    managed_only: bool = False
    thresholds: Thresholds = THRESHOLDS


class BudgetResponse(msgspec.Struct, kw_only=True):
    """A monthly budget, with what is used of it in this month and held for running calls. The
    amounts are US dollars."""

    scope: Scope
    scope_id: str
    name: str
    limit: str
    managed_only: bool
    thresholds: list[int]
    month: str
    used: str
    held: str
    remaining: str
    used_percent: float | None
    resets_at: datetime.datetime
    version: int
    created_at: datetime.datetime
    updated_at: datetime.datetime


class BudgetPage(Page):
    """A page of budgets: of the organization, of its projects, of its keys."""

    budgets: list[BudgetResponse]


def to_budget_response(state: BudgetState) -> BudgetResponse:
    limit = state.limit
    return BudgetResponse(
        scope=msgspec.convert(limit.scope, Scope),
        scope_id=limit.scope_id,
        name=limit.name,
        limit=show_dollars(limit.limit_nano),
        managed_only=limit.managed_only,
        thresholds=list(limit.thresholds),
        month=state.month,
        used=show_dollars(state.used_nano),
        held=show_dollars(state.held_nano),
        remaining=show_dollars(state.remaining_nano),
        used_percent=state.used_percent,
        resets_at=to_datetime(state.resets_at),
        version=limit.version,
        created_at=to_datetime(limit.created_at),
        updated_at=to_datetime(limit.updated_at),
    )
