"""The SQL over single calls of a range: their list, their outcomes and their tools. Corrections are
no calls."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.llm.usage import Usage
from headgate.metering.model.receipts import CORRECTED, from_row
from headgate.metering.model.usage import NOT_FAILED
from headgate.metering.model.zones import Period
from headgate.metering.store.receipts import RECEIPTS
from headgate.metering.store.usage import UsageFilter, match_filters
from headgate.relay.ports import Receipt

_R = RECEIPTS.c


def list_calls(
    connection: sa.Connection, filters: UsageFilter, period: Period, *, limit: int, offset: int
) -> list[Receipt]:
    """Return the receipts of calls, newest first."""
    statement = (
        sa.select(RECEIPTS)
        .where(*_match_calls(filters, period))
        .order_by(_R.created_at.desc(), _R.request_id.desc())
        .limit(limit)
        .offset(offset)
    )
    return [from_row(row) for row in connection.execute(statement)]


def count_errors(
    connection: sa.Connection, filters: UsageFilter, period: Period, *, status: int | None
) -> tuple[int, int]:
    """Return the number of calls, and of those that failed; with `status`, of those that failed
    with it."""
    failed = _R.outcome.not_in(NOT_FAILED)
    if status is not None:
        failed = sa.and_(failed, _R.status == status)
    counted = sa.select(sa.func.count(), sa.func.sum(sa.case((failed, 1), else_=0)))
    calls, errors = connection.execute(counted.where(*_match_calls(filters, period))).one()
    return int(calls), int(errors or 0)


def list_tool_calls(
    connection: sa.Connection, filters: UsageFilter, period: Period, *, examined_max: int
) -> tuple[list[Usage], bool]:
    """Return the usage of calls with hosted tools, and whether all calls of the period were
    examined: the newest ones are."""
    conditions = _match_calls(filters, period)
    oldest = (
        sa.select(_R.created_at)
        .where(*conditions)
        .order_by(_R.created_at.desc())
        .offset(examined_max)
        .limit(1)
    )
    last = connection.execute(oldest).scalar_one_or_none()
    statement = sa.select(RECEIPTS).where(
        *conditions,
        _R.usage.contains('"tool_calls"'),
        *([] if last is None else [_R.created_at > last]),
    )
    receipts = [from_row(row) for row in connection.execute(statement)]
    return [each.usage for each in receipts if each.usage is not None], last is None


def _match_calls(filters: UsageFilter, period: Period) -> list[sa.ColumnElement[bool]]:
    conditions = match_filters(filters, RECEIPTS)
    conditions += [
        _R.created_at >= period.start,
        _R.created_at < period.end,
        _R.outcome != CORRECTED,
    ]
    if filters.model:
        named = sa.func.coalesce(sa.func.nullif(_R.model_requested, ""), _R.model_served)
        conditions.append(named.in_([filters.model, _R.provider.concat("/").concat(filters.model)]))
    return conditions
