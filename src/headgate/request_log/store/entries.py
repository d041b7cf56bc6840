"""The SQL of the rows of the request log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import BulkInsert
from headgate.kit.page_cursor import PageCursor
from headgate.request_log.model.entry import (
    PENDING,
    RequestEntry,
    RequestFilter,
    RequestList,
)

CHECKED_OUTCOMES = ("completed", "cancelled", PENDING, "replayed")
"""The outcomes of requests that did not fail."""


def _build_column(field: msgspec.structs.FieldInfo) -> sa.Column[Any]:
    if field.name == "id":
        return sa.Column("id", sa.Text, primary_key=True)
    kind = sa.Text if field.type is str else sa.BigInteger
    return sa.Column(field.name, kind, nullable=False)


ENTRIES = sa.Table(
    "request_log",
    METADATA,
    *(_build_column(field) for field in msgspec.structs.fields(RequestEntry)),
    sa.Index("ix_request_log_organization_id_created_at", "organization_id", "created_at"),
    sa.Index("ix_request_log_project_id_created_at", "project_id", "created_at"),
)
_E = ENTRIES.c
_INSERT = BulkInsert(ENTRIES, *RequestEntry.__struct_fields__, ignore_known=True)
_EQUAL = {
    "project_id": _E.project_id,
    "key_id": _E.key_id,
    "credential_id": _E.credential_id,
    "provider": _E.provider,
    "endpoint": _E.endpoint,
    "outcome": _E.outcome,
    "status": _E.status,
    "streamed": _E.streamed,
    "error_code": _E.error_code,
    "client_address": _E.client_address,
    "correlation_id": _E.correlation_id,
    "upstream_request_id": _E.upstream_request_id,
    "response_id": _E.response_id,
}
"""The filters that compare one column, which stores flags as numbers."""

_ORDER = PageOrder(_E.created_at, _E.id)


def insert(connection: sa.Connection, entries: Sequence[RequestEntry]) -> int:
    """Insert rows, ignoring those that are there already. Return how many were new."""
    return _INSERT.run(connection, [msgspec.structs.astuple(entry) for entry in entries])


def find(connection: sa.Connection, request_id: str) -> RequestEntry | None:
    row = connection.execute(sa.select(ENTRIES).where(_E.id == request_id)).first()
    return None if row is None else RequestEntry(*row)


def list_page(
    connection: sa.Connection,
    filters: RequestFilter,
    *,
    after: PageCursor | None,
    limit: int,
    scanned_max: int = SCANNED_MAX,
) -> RequestList:
    """Return the newest rows that match, newest first, from behind a place."""
    rows, following = _ORDER.select_page(
        connection,
        _select_range(filters),
        _select_others(filters),
        after=after,
        limit=limit,
        scanned_max=scanned_max,
    )
    return RequestList([RequestEntry(*row) for row in rows], following)


def settle(connection: sa.Connection, request_id: str, values: Mapping[str, Any]) -> int:
    """Change the row of a request whose work went on in the background; return 1, or 0 where there
    is none that waits for its end."""
    waits = sa.and_(_E.id == request_id, _E.outcome == PENDING)
    return connection.execute(sa.update(ENTRIES).where(waits).values(**values)).rowcount


def forget_payload(connection: sa.Connection, request_id: str) -> None:
    """Note in the row of a request that its bodies are no longer kept."""
    connection.execute(sa.update(ENTRIES).where(_E.id == request_id).values(payload=0))


def delete_before(
    connection: sa.Connection, project_id: str, before: int, *, rows_max: int
) -> list[str]:
    """Delete some rows of a project that ended before a time in microseconds; return their ids."""
    query = (
        sa.select(_E.id)
        .where(_E.project_id == project_id, _E.created_at < before)
        .order_by(_E.created_at)
        .limit(rows_max)
    )
    ids = list(connection.execute(query).scalars())
    if ids:
        connection.execute(sa.delete(ENTRIES).where(_E.id.in_(ids)))
    return ids


def list_projects(connection: sa.Connection) -> list[str]:
    """Return the projects that have rows. Each is one look into the index."""
    return list_owners(connection, _E.project_id)


def _select_range(filters: RequestFilter) -> Conditions:
    owned = _E.organization_id == filters.organization_id
    return [owned, *match_time(_E.created_at, filters.since, filters.until)]


def _select_others(filters: RequestFilter) -> Conditions:
    conditions = match_columns(_EQUAL, msgspec.structs.asdict(filters))
    if filters.projects:
        conditions.append(_E.project_id.in_(filters.projects))
    if filters.model is not None:
        qualified = _E.provider.concat("/").concat(filters.model)
        conditions.append(
            sa.or_(
                _E.model == filters.model, _E.model_served == filters.model, _E.model == qualified
            )
        )
    if filters.resource is not None:
        conditions.append(
            sa.or_(_E.resource_id == filters.resource, _E.resource_name == filters.resource)
        )
    if filters.failed is not None:
        is_good = sa.and_(_E.status < 400, _E.outcome.in_(CHECKED_OUTCOMES))
        conditions.append(sa.not_(is_good) if filters.failed else is_good)
    if filters.metadata is not None:
        conditions.append(has_pair(_E.metadata, *filters.metadata))
    if filters.total_min_microseconds is not None:
        conditions.append(_E.total_microseconds >= filters.total_min_microseconds)
    return conditions
