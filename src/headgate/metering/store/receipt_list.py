"""The SQL that finds receipts: pages of them, newest first, and all of a range, oldest first."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from headgate.kit.db.newest_first import (
    SCANNED_MAX,
    Conditions,
    PageOrder,
    has_pair,
    list_owners,
    match_columns,
    match_time,
)
from headgate.kit.page_cursor import PageCursor
from headgate.metering.model.receipt_filter import (
    ReceiptFilter,
    ReceiptList,
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
    after: PageCursor | None,
    limit: int,
    scanned_max: int = SCANNED_MAX,
) -> ReceiptList:
    """Return the newest receipts that match, newest first, from behind a place."""
    rows, following = _ORDER.select_page(
        connection,
        _select_range(filters),
        _select_others(filters),
        after=after,
        limit=limit,
        scanned_max=scanned_max,
    )
    return ReceiptList([from_row(row) for row in rows], following)


def _select_range(filters: ReceiptFilter) -> Conditions:
    owned = _R.organization_id == filters.organization_id
    return [owned, *match_time(_R.created_at, filters.since, filters.until)]


def _select_others(filters: ReceiptFilter) -> Conditions:
    conditions = match_columns(_EQUAL, msgspec.structs.asdict(filters))
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
    return list_owners(connection, _R.organization_id)


def list_range(
    connection: sa.Connection, filters: ReceiptFilter, *, after: PageCursor | None, limit: int
) -> list[Receipt]:
    """Return the receipts of an organization and a range of time, oldest first, from behind a
    place."""
    conditions = _select_range(filters)
    if after is not None:
        is_later = sa.and_(_R.created_at == after.created_at, _R.request_id > after.id)
        conditions += [
            _R.created_at >= after.created_at,
            sa.or_(_R.created_at > after.created_at, is_later),
        ]
    query = (
        sa.select(RECEIPTS).where(*conditions).order_by(_R.created_at, _R.request_id).limit(limit)
    )
    return [from_row(row) for row in connection.execute(query)]
