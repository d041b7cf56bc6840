"""The SQL that finds receipts: pages of them, newest first, and all of a range, oldest first."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

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

SCANNED_MAX = 100_000
"""How many receipts one page examines at most. Only organization and time have an index, since
every call waits for the insert."""

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

Conditions = list[sa.ColumnElement[bool]]


def list_page(
    connection: sa.Connection,
    filters: ReceiptFilter,
    *,
    after: ReceiptCursor | None,
    limit: int,
    scanned_max: int = SCANNED_MAX,
) -> ReceiptList:
    """Return the newest receipts that match, newest first, from behind a place."""
    indexed = _select_range(filters)
    if after is not None:
        is_earlier = sa.and_(_R.created_at == after.created_at, _R.request_id < after.request_id)
        indexed += [
            _R.created_at <= after.created_at,
            sa.or_(_R.created_at < after.created_at, is_earlier),
        ]
    others = _select_others(filters)
    last: int | None = None
    if others:
        last = _find_last_scanned(connection, indexed, scanned_max)
        if last is not None:
            indexed.append(_R.created_at >= last)
    query = (
        sa.select(RECEIPTS)
        .where(*indexed, *others)
        .order_by(_R.created_at.desc(), _R.request_id.desc())
        .limit(limit + 1)
    )
    found = [from_row(row) for row in connection.execute(query)]
    if len(found) > limit:
        return ReceiptList(found[:limit], find_place(found[limit - 1]))
    return ReceiptList(found, None if last is None else ReceiptCursor(last))


def _find_last_scanned(
    connection: sa.Connection, indexed: Conditions, scanned_max: int
) -> int | None:
    """Return the time of the last receipt that a page may examine; None where that is the end."""
    query = (
        sa.select(_R.created_at)
        .where(*indexed)
        .order_by(_R.created_at.desc())
        .offset(scanned_max - 1)
        .limit(2)
    )
    times = connection.execute(query).scalars().all()
    return times[0] if len(times) == 2 else None


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
        conditions.append(_has_pair(*filters.metadata))
    if filters.name is not None:
        ids = (_R.correlation_id, _R.upstream_request_id, _R.answer_id)
        conditions.append(sa.or_(*(each == filters.name for each in ids)))
    return conditions


def _has_pair(key: str, value: str) -> sa.ColumnElement[bool]:
    """Return the condition that the metadata has a pair.

    It is stored as msgspec writes it, without spaces, and in a text every quote is escaped. So the
    pair is in it if these bytes are, behind the brace or a comma.
    """
    pair = f"{msgspec.json.encode(key).decode()}:{msgspec.json.encode(value).decode()}"
    # Without a wildcard, and with case, on both databases.
    return sa.or_(
        *(sa.func.replace(_R.metadata, f"{start}{pair}", "") != _R.metadata for start in "{,")
    )


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
