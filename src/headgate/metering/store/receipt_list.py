"""The SQL that finds receipts: pages of them, newest first, and all of a range, oldest first."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from headgate.kit.db.newest_first import SCANNED_MAX, Conditions, PageOrder, has_pair
from headgate.metering.model.receipt_filter import (
    MICROSECONDS,
    ReceiptCursor,
    ReceiptFilter,
    ReceiptList,
    find_place,
)
from headgate.metering.model.receipts import from_row
from headgate.metering.store.receipts import RECEIPTS
from headgate.relay.ports import Receipt

_R = RECEIPTS.c
_EQUAL = {
    "project_id": _R.project_id,
    "key_id": _R.key_id,
    "credential_id": _R.credential_id,
    "provider": _R.provider,
    "endpoint": _R.endpoint,
    "outcome": _R.outcome,
    "pricing": _R.pricing,
    "status": _R.status,
    "managed": _R.managed,
    "streamed": _R.streamed,
    "cache_status": _R.cache_status,
    "correlation_id": _R.correlation_id,
    "upstream_request_id": _R.upstream_request_id,
    "response_id": _R.answer_id,
}
"""The filters that compare one column, which stores flags as numbers."""

# Every call waits for the insert of its receipt, so there are no further indexes.
_ORDER = PageOrder(_R.created_at, _R.request_id)


def list_page(
    connection: sa.Connection,
    filters: ReceiptFilter,
    *,
    after: ReceiptCursor | None,
    limit: int,
    scanned_max: int = SCANNED_MAX,
) -> ReceiptList:
    """Return the newest receipts that match, newest first, from behind a place."""
    place = None if after is None else (after.created_at, after.request_id)
    rows, last = _ORDER.select_page(
        connection,
        _select_range(filters),
        _select_others(filters),
        after=place,
        limit=limit,
        scanned_max=scanned_max,
    )
    found = [from_row(row) for row in rows]
    if len(found) > limit:
        return ReceiptList(found[:limit], find_place(found[limit - 1]))
    return ReceiptList(found, None if last is None else ReceiptCursor(last))


def _select_range(filters: ReceiptFilter) -> Conditions:
    conditions: Conditions = [_R.organization_id == filters.organization_id]
    if filters.since is not None:
        conditions.append(_R.created_at >= round(filters.since * MICROSECONDS))
    if filters.until is not None:
        conditions.append(_R.created_at < round(filters.until * MICROSECONDS))
    return conditions


def _select_others(filters: ReceiptFilter) -> Conditions:
    given = msgspec.structs.asdict(filters)
    conditions: Conditions = [
        column == (int(given[name]) if isinstance(given[name], bool) else given[name])
        for name, column in _EQUAL.items()
        if given[name] is not None
    ]
    if filters.projects:
        conditions.append(_R.project_id.in_(filters.projects))
    if filters.cost_min_nano is not None:
        conditions.append(_R.cost_nano >= filters.cost_min_nano)
    if filters.cost_max_nano is not None:
        conditions.append(_R.cost_nano <= filters.cost_max_nano)
    if filters.model is not None:
        qualified = _R.provider.concat("/").concat(filters.model)
        names = (_R.model_requested, _R.model_served)
        is_named = [name == filters.model for name in names]
        conditions.append(sa.or_(*is_named, _R.model_requested == qualified))
    if filters.metadata is not None:
        conditions.append(has_pair(_R.metadata, *filters.metadata))
    if filters.name is not None:
        ids = (_R.correlation_id, _R.upstream_request_id, _R.answer_id)
        conditions.append(sa.or_(*(each == filters.name for each in ids)))
    return conditions


def list_organizations(connection: sa.Connection) -> list[str]:
    """Return the organizations that have receipts. Each is one look into the index."""
    found: list[str] = []
    query = sa.select(sa.func.min(_R.organization_id))
    name = connection.execute(query).scalar_one()
    while name is not None:
        found.append(name)
        name = connection.execute(query.where(_R.organization_id > name)).scalar_one()
    return found


def list_range(
    connection: sa.Connection, filters: ReceiptFilter, *, after: ReceiptCursor | None, limit: int
) -> list[Receipt]:
    """Return the receipts of an organization and a range of time, oldest first, from behind a
    place."""
    conditions = _select_range(filters)
    if after is not None:
        is_later = sa.and_(_R.created_at == after.created_at, _R.request_id > after.request_id)
        conditions += [
            _R.created_at >= after.created_at,
            sa.or_(_R.created_at > after.created_at, is_later),
        ]
    query = (
        sa.select(RECEIPTS).where(*conditions).order_by(_R.created_at, _R.request_id).limit(limit)
    )
    return [from_row(row) for row in connection.execute(query)]
