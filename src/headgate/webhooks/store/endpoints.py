"""The SQL of webhook endpoints and their secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.overlap import expire_rows
from headgate.kit.db.schema import METADATA, bump_revision, count_rows, read_revision
from headgate.webhooks.model.endpoint import DisabledReason, WebhookEndpoint

TOPIC = "webhooks"

ENDPOINTS = sa.Table(
    "webhook_endpoints",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column(
        "organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False, index=True
    ),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("enabled_events", sa.JSON, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("ordered", sa.Boolean, nullable=False),
    sa.Column("disabled_at", sa.Double),
    sa.Column("disabled_reason", sa.Text),
    sa.Column("failing_since", sa.Double),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)
SECRETS = sa.Table(
    "webhook_secrets",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False),
    sa.Column("endpoint_id", sa.Text, nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("key_id", sa.Text, sa.ForeignKey("organization_keys.id"), nullable=False, index=True),
    sa.Column("seal_number", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
)
_FIELDS = WebhookEndpoint.__struct_fields__


class SecretRow(msgspec.Struct, frozen=True):
    """Hold a sealed secret of an endpoint. Without `expires_at` it is the current one."""

    id: str
    organization_id: str
    endpoint_id: str
    name: str
    key_id: str
    seal_number: int
    created_at: float
    expires_at: float | None
    sealed: bytes


_SECRET_FIELDS = SecretRow.__struct_fields__


def note_change(connection: sa.Connection) -> None:
    """Let every process reload its endpoints."""
    bump_revision(connection, TOPIC)


def read_version(connection: sa.Connection) -> int:
    """Return the number of the last change of any endpoint that this transaction sees."""
    return read_revision(connection, TOPIC)


def insert_endpoint(connection: sa.Connection, endpoint: WebhookEndpoint) -> None:
    connection.execute(sa.insert(ENDPOINTS).values(**msgspec.to_builtins(endpoint)))
    note_change(connection)


def update_endpoint(
    connection: sa.Connection, endpoint: WebhookEndpoint, values: Mapping[str, Any]
) -> None:
    connection.execute(
        sa.update(ENDPOINTS)
        .where(
            ENDPOINTS.c.id == endpoint.id, ENDPOINTS.c.organization_id == endpoint.organization_id
        )
        .values(version=ENDPOINTS.c.version + 1, **msgspec.to_builtins(values))
    )
    note_change(connection)


def delete_endpoint(connection: sa.Connection, endpoint: WebhookEndpoint) -> None:
    connection.execute(sa.delete(SECRETS).where(SECRETS.c.endpoint_id == endpoint.id))
    connection.execute(
        sa.delete(ENDPOINTS).where(
            ENDPOINTS.c.id == endpoint.id, ENDPOINTS.c.organization_id == endpoint.organization_id
        )
    )
    note_change(connection)


def select_endpoint(
    connection: sa.Connection, endpoint_id: str, *, organization_id: str | None
) -> WebhookEndpoint | None:
    """Return an endpoint of the organization, or of any for None."""
    statement = sa.select(ENDPOINTS).where(ENDPOINTS.c.id == endpoint_id)
    if organization_id is not None:
        statement = statement.where(ENDPOINTS.c.organization_id == organization_id)
    row = connection.execute(statement).one_or_none()
    return None if row is None else _endpoint(row)


def select_endpoints(
    connection: sa.Connection, organization_id: str | None, *, limit: int, offset: int
) -> tuple[list[WebhookEndpoint], int]:
    """Return a page of an organization's endpoints (of all for None), oldest first, and the
    total."""
    conditions = [] if organization_id is None else [ENDPOINTS.c.organization_id == organization_id]
    statement = (
        sa.select(ENDPOINTS)
        .where(*conditions)
        .order_by(ENDPOINTS.c.created_at, ENDPOINTS.c.id)
        .limit(limit)
        .offset(offset)
    )
    page = [_endpoint(row) for row in connection.execute(statement)]
    return page, count_rows(connection, ENDPOINTS, *conditions)


def select_enabled(connection: sa.Connection) -> Iterator[WebhookEndpoint]:
    """Yield every endpoint that is not disabled, oldest first."""
    statement = (
        sa.select(ENDPOINTS)
        .where(ENDPOINTS.c.disabled_at.is_(None))
        .order_by(ENDPOINTS.c.created_at, ENDPOINTS.c.id)
    )
    for row in connection.execute(statement):
        yield _endpoint(row)


def insert_secret(connection: sa.Connection, secret: SecretRow) -> None:
    connection.execute(sa.insert(SECRETS).values(**msgspec.structs.asdict(secret)))


def expire_secrets(
    connection: sa.Connection, endpoint_id: str, *, now: float, until: float
) -> None:
    """Let the current secret end at a time, and delete those from before."""
    expire_rows(connection, SECRETS, SECRETS.c.endpoint_id == endpoint_id, now=now, until=until)


def delete_expired_secrets(connection: sa.Connection, now: float) -> int:
    """Delete secrets whose overlap is over; return how many."""
    return connection.execute(sa.delete(SECRETS).where(SECRETS.c.expires_at <= now)).rowcount


def select_secrets(connection: sa.Connection) -> Iterator[SecretRow]:
    """Yield all secrets, the newest of each endpoint first."""
    statement = sa.select(SECRETS).where(SECRETS.c.sealed.is_not(None))
    for row in connection.execute(statement.order_by(SECRETS.c.created_at.desc())):
        yield SecretRow(*(getattr(row, name) for name in _SECRET_FIELDS))


def read_previous_expiry(connection: sa.Connection, endpoint_id: str) -> float | None:
    """Return when the secret from before the last rotation ends; None without one."""
    statement = sa.select(sa.func.max(SECRETS.c.expires_at))
    return connection.execute(statement.where(SECRETS.c.endpoint_id == endpoint_id)).scalar()


def mark_working(connection: sa.Connection, endpoint_id: str) -> None:
    """Note a success: the endpoint is no longer failing."""
    connection.execute(
        sa.update(ENDPOINTS)
        .where(ENDPOINTS.c.id == endpoint_id, ENDPOINTS.c.failing_since.is_not(None))
        .values(failing_since=None)
    )


def mark_failing(connection: sa.Connection, endpoint_id: str, now: float) -> None:
    """Note the first failure after a success."""
    connection.execute(
        sa.update(ENDPOINTS)
        .where(ENDPOINTS.c.id == endpoint_id, ENDPOINTS.c.failing_since.is_(None))
        .values(failing_since=now)
    )


def _endpoint(row: sa.Row[Any]) -> WebhookEndpoint:
    fields = {name: getattr(row, name) for name in _FIELDS}
    fields["enabled_events"] = tuple(fields["enabled_events"])
    if fields["disabled_reason"] is not None:
        fields["disabled_reason"] = DisabledReason(fields["disabled_reason"])
    return WebhookEndpoint(**fields)
