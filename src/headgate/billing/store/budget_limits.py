"""The SQL of budgets as owners set them. Their counters are in `budgets`."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.billing.model.budget_limits import BudgetLimit
from headgate.billing.model.budgets import format_thresholds, parse_thresholds
from headgate.billing.store.budgets import BUDGETS, TOPIC
from headgate.kit.db.schema import bump_revision

_FIELDS = tuple(name for name in BudgetLimit.__struct_fields__ if name != "name")
_COLUMNS = [BUDGETS.c[name] for name in _FIELDS]


def lock(connection: sa.Connection) -> None:
    """Bump the revision, by which all processes notice the change. Other writers wait."""
    bump_revision(connection, TOPIC)


def upsert(connection: sa.Connection, limit: BudgetLimit) -> None:
    """Insert a budget, or replace the one of the same object."""
    values: dict[str, Any] = msgspec.structs.asdict(limit)
    del values["name"]
    values |= {
        "managed_only": int(limit.managed_only),
        "thresholds": format_thresholds(limit.thresholds),
    }
    is_known = _match(limit.scope, limit.scope_id)
    if not connection.execute(sa.update(BUDGETS).where(*is_known).values(values)).rowcount:
        connection.execute(sa.insert(BUDGETS).values(values))


def delete(connection: sa.Connection, limit: BudgetLimit) -> None:
    connection.execute(sa.delete(BUDGETS).where(*_match(limit.scope, limit.scope_id)))


def select(
    connection: sa.Connection, organization_id: str, *, scope: str, scope_id: str
) -> BudgetLimit | None:
    conditions = (*_match(scope, scope_id), BUDGETS.c.organization_id == organization_id)
    row = connection.execute(sa.select(*_COLUMNS).where(*conditions)).one_or_none()
    return None if row is None else _build(row)


def select_all(connection: sa.Connection, organization_id: str) -> list[BudgetLimit]:
    """Return the budgets of an organization and its projects, the organization's first."""
    query = (
        sa.select(*_COLUMNS)
        .where(BUDGETS.c.organization_id == organization_id)
        .order_by(BUDGETS.c.scope, BUDGETS.c.created_at, BUDGETS.c.scope_id)
    )
    return [_build(row) for row in connection.execute(query)]


def _match(scope: str, scope_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return BUDGETS.c.scope == scope, BUDGETS.c.scope_id == scope_id


def _build(row: Any) -> BudgetLimit:
    fields = dict(zip(_FIELDS, row, strict=True))
    fields["managed_only"] = bool(fields["managed_only"])
    fields["thresholds"] = parse_thresholds(fields["thresholds"])
    return BudgetLimit(**fields)
