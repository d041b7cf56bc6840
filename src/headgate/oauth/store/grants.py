"""The SQL of grants, and of their codes and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA
from headgate.oauth.model.grant import ConnectedApplication, GrantRecord
from headgate.oauth.store.applications import (
    APPLICATION_COLUMNS,
    APPLICATIONS,
    read_application,
)

DELETED_AT_ONCE = 1_000

GRANTS = sa.Table(
    "oauth_grants",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column(
        "application_id",
        sa.Text,
        sa.ForeignKey("connected_applications.id"),
        nullable=False,
        index=True,
    ),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
)

CODES = sa.Table(
    "oauth_codes",
    METADATA,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("grant_id", sa.Text, sa.ForeignKey("oauth_grants.id"), nullable=False, index=True),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
    sa.Column("redirect_uri", sa.Text, nullable=False),
    sa.Column("challenge", sa.Text, nullable=False),
    sa.Column("used_at", sa.Double),
)

ACCESS_TOKENS = sa.Table(
    "oauth_access_tokens",
    METADATA,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("grant_id", sa.Text, sa.ForeignKey("oauth_grants.id"), nullable=False, index=True),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
    sa.Column("scopes", sa.JSON, nullable=False),
)

REFRESH_TOKENS = sa.Table(
    "oauth_refresh_tokens",
    METADATA,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("grant_id", sa.Text, sa.ForeignKey("oauth_grants.id"), nullable=False, index=True),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
    sa.Column("used_at", sa.Double),
    sa.Column("salt", sa.LargeBinary(32)),
)

_GRANT_FIELDS = GrantRecord.__struct_fields__
_GRANT_COLUMNS = [GRANTS.c[name].label(f"grant_{name}") for name in _GRANT_FIELDS]


class CodeRow(msgspec.Struct, frozen=True):
    """Hold a stored authorization code."""

    redirect_uri: str
    challenge: str
    expires_at: float
    used_at: float | None


class RefreshTokenRow(msgspec.Struct, frozen=True):
    """Hold a stored refresh token. `salt` is that of its successor, once it was used."""

    expires_at: float
    used_at: float | None
    salt: bytes | None


class GrantOfToken(msgspec.Struct, frozen=True):
    """Hold the grant of a code or a token, and the application that it was given to."""

    application: ConnectedApplication
    grant: GrantRecord


def mark_revoked(connection: sa.Connection, application_id: str, *, at: float) -> bool:
    """Revoke an application, and delete what its grants hold. Return whether it was not revoked
    before: of two that try at once, one does it."""
    unrevoked = (APPLICATIONS.c.id == application_id, APPLICATIONS.c.revoked_at.is_(None))
    changed = connection.execute(
        sa.update(APPLICATIONS).where(*unrevoked).values(revoked_at=at)
    ).rowcount
    if not changed:
        return False
    statement = sa.select(GRANTS.c.id).where(GRANTS.c.application_id == application_id)
    for grant_id in connection.execute(statement).scalars().all():
        end_grant(connection, grant_id, at=at)
    return True


def mark_connected(connection: sa.Connection, application_id: str, *, at: float) -> None:
    """Note that an application has got tokens, unless it had some before."""
    unconnected = (APPLICATIONS.c.id == application_id, APPLICATIONS.c.connected_at.is_(None))
    connection.execute(sa.update(APPLICATIONS).where(*unconnected).values(connected_at=at))


def select_unconnected(
    connection: sa.Connection, *, before: float, limit: int
) -> list[ConnectedApplication]:
    """Return unrevoked applications that never got tokens, and can get none any more."""
    is_open = sa.exists().where(
        GRANTS.c.application_id == APPLICATIONS.c.id, GRANTS.c.ended_at.is_(None)
    )
    statement = (
        sa.select(*APPLICATION_COLUMNS)
        .where(
            APPLICATIONS.c.connected_at.is_(None),
            APPLICATIONS.c.revoked_at.is_(None),
            APPLICATIONS.c.created_at < before,
            sa.not_(is_open),
        )
        .limit(limit)
    )
    return [read_application(row) for row in connection.execute(statement)]


def insert_grant(connection: sa.Connection, grant: GrantRecord) -> None:
    values = {**msgspec.structs.asdict(grant), "scopes": list(grant.scopes)}
    connection.execute(sa.insert(GRANTS).values(**values))


def select_grants(
    connection: sa.Connection, application_ids: Sequence[str]
) -> dict[str, list[GrantRecord]]:
    """Return the grants of applications that have not ended, by application."""
    statement = (
        sa.select(*_GRANT_COLUMNS)
        .where(GRANTS.c.application_id.in_(application_ids), GRANTS.c.ended_at.is_(None))
        .order_by(GRANTS.c.created_at, GRANTS.c.id)
    )
    found: dict[str, list[GrantRecord]] = {}
    for row in connection.execute(statement):
        grant = _read_grant(row)
        found.setdefault(grant.application_id, []).append(grant)
    return found


def end_grant(connection: sa.Connection, grant_id: str, *, at: float) -> bool:
    """End a grant and delete its codes and tokens. Return whether it had not ended before."""
    ended = connection.execute(
        sa.update(GRANTS)
        .where(GRANTS.c.id == grant_id, GRANTS.c.ended_at.is_(None))
        .values(ended_at=at)
    ).rowcount
    for table in (CODES, ACCESS_TOKENS, REFRESH_TOKENS):
        connection.execute(sa.delete(table).where(table.c.grant_id == grant_id))
    return bool(ended)


def insert_code(
    connection: sa.Connection,
    digest: bytes,
    grant_id: str,
    *,
    redirect_uri: str,
    challenge: str,
    expires_at: float,
) -> None:
    connection.execute(
        sa.insert(CODES).values(
            digest=digest,
            grant_id=grant_id,
            redirect_uri=redirect_uri,
            challenge=challenge,
            expires_at=expires_at,
        )
    )


def select_code(connection: sa.Connection, digest: bytes) -> tuple[CodeRow, GrantOfToken] | None:
    columns = [CODES.c[name].label(f"code_{name}") for name in CodeRow.__struct_fields__]
    row = _select_with_grant(connection, CODES, columns, digest)
    if row is None:
        return None
    fields = {name: getattr(row, f"code_{name}") for name in CodeRow.__struct_fields__}
    return CodeRow(**fields), _read_both(row)


def use_code(connection: sa.Connection, digest: bytes, *, at: float) -> bool:
    """Use a code up. Return whether it was unused: of two that try at once, one does."""
    unused = (CODES.c.digest == digest, CODES.c.used_at.is_(None))
    return connection.execute(sa.update(CODES).where(*unused).values(used_at=at)).rowcount > 0


def insert_access_token(
    connection: sa.Connection,
    digest: bytes,
    grant_id: str,
    *,
    scopes: Sequence[str],
    expires_at: float,
) -> None:
    connection.execute(
        sa.insert(ACCESS_TOKENS).values(
            digest=digest, grant_id=grant_id, scopes=list(scopes), expires_at=expires_at
        )
    )


def delete_old_access_tokens(
    connection: sa.Connection, grant_id: str, *, now: float, kept_max: int
) -> None:
    """Delete what has expired of a grant's access tokens, and all but the newest."""
    of_grant = ACCESS_TOKENS.c.grant_id == grant_id
    connection.execute(sa.delete(ACCESS_TOKENS).where(of_grant, ACCESS_TOKENS.c.expires_at <= now))
    statement = (
        sa.select(ACCESS_TOKENS.c.digest)
        .where(of_grant)
        .order_by(ACCESS_TOKENS.c.expires_at.desc())
        .offset(kept_max)
        .limit(DELETED_AT_ONCE)
    )
    surplus = connection.execute(statement).scalars().all()
    if surplus:
        connection.execute(sa.delete(ACCESS_TOKENS).where(ACCESS_TOKENS.c.digest.in_(surplus)))


def select_access_token(
    connection: sa.Connection, digest: bytes
) -> tuple[float, tuple[str, ...], GrantOfToken] | None:
    """Return the expiry and the scopes of an access token, with its grant."""
    columns = [
        ACCESS_TOKENS.c.expires_at.label("token_expires_at"),
        ACCESS_TOKENS.c.scopes.label("token_scopes"),
    ]
    row = _select_with_grant(connection, ACCESS_TOKENS, columns, digest)
    if row is None:
        return None
    return row.token_expires_at, tuple(row.token_scopes), _read_both(row)


def delete_access_token(connection: sa.Connection, digest: bytes) -> None:
    connection.execute(sa.delete(ACCESS_TOKENS).where(ACCESS_TOKENS.c.digest == digest))


def insert_refresh_token(
    connection: sa.Connection, digest: bytes, grant_id: str, *, expires_at: float
) -> None:
    connection.execute(
        sa.insert(REFRESH_TOKENS).values(digest=digest, grant_id=grant_id, expires_at=expires_at)
    )


def select_refresh_token(
    connection: sa.Connection, digest: bytes
) -> tuple[RefreshTokenRow, GrantOfToken] | None:
    names = RefreshTokenRow.__struct_fields__
    columns = [REFRESH_TOKENS.c[name].label(f"token_{name}") for name in names]
    row = _select_with_grant(connection, REFRESH_TOKENS, columns, digest)
    if row is None:
        return None
    return RefreshTokenRow(*(getattr(row, f"token_{name}") for name in names)), _read_both(row)


def use_refresh_token(connection: sa.Connection, digest: bytes, *, at: float, salt: bytes) -> bool:
    """Use a refresh token up. Return whether it was unused: of many that try at once, one does."""
    unused = (REFRESH_TOKENS.c.digest == digest, REFRESH_TOKENS.c.used_at.is_(None))
    statement = sa.update(REFRESH_TOKENS).where(*unused).values(used_at=at, salt=salt)
    return connection.execute(statement).rowcount > 0


def delete_used_refresh_tokens(connection: sa.Connection, grant_id: str, *, kept_max: int) -> None:
    """Forget the oldest used tokens of a grant. A token that is forgotten is just unknown."""
    statement = (
        sa.select(REFRESH_TOKENS.c.digest)
        .where(REFRESH_TOKENS.c.grant_id == grant_id, REFRESH_TOKENS.c.used_at.is_not(None))
        .order_by(REFRESH_TOKENS.c.used_at.desc())
        .offset(kept_max)
        .limit(DELETED_AT_ONCE)
    )
    old = connection.execute(statement).scalars().all()
    if old:
        connection.execute(sa.delete(REFRESH_TOKENS).where(REFRESH_TOKENS.c.digest.in_(old)))


def delete_expired(connection: sa.Connection, *, now: float) -> int:
    """Delete codes and tokens that have expired, some of each kind; return how many."""
    count = 0
    for table in (CODES, ACCESS_TOKENS, REFRESH_TOKENS):
        expired = sa.select(table.c.digest).where(table.c.expires_at <= now).limit(DELETED_AT_ONCE)
        count += connection.execute(sa.delete(table).where(table.c.digest.in_(expired))).rowcount
    return count


def end_unused_grants(connection: sa.Connection, *, before: float, at: float) -> int:
    """End grants that hold nothing any more: codes that were never redeemed, and applications that
    did not come back. Return how many ended."""
    held = [
        sa.exists().where(table.c.grant_id == GRANTS.c.id)
        for table in (CODES, ACCESS_TOKENS, REFRESH_TOKENS)
    ]
    empty = (
        sa.select(GRANTS.c.id)
        .where(GRANTS.c.ended_at.is_(None), GRANTS.c.created_at < before, sa.not_(sa.or_(*held)))
        .limit(DELETED_AT_ONCE)
    )
    statement = sa.update(GRANTS).where(GRANTS.c.id.in_(empty)).values(ended_at=at)
    return connection.execute(statement).rowcount


def delete_ended_grants(connection: sa.Connection, *, before: float) -> int:
    """Delete grants that ended before a time; they hold nothing. Return how many."""
    old = sa.select(GRANTS.c.id).where(GRANTS.c.ended_at < before).limit(DELETED_AT_ONCE)
    return connection.execute(sa.delete(GRANTS).where(GRANTS.c.id.in_(old))).rowcount


def _select_with_grant(
    connection: sa.Connection, table: sa.Table, columns: Sequence[Any], digest: bytes
) -> Any:
    statement = (
        sa.select(*columns, *_GRANT_COLUMNS, *APPLICATION_COLUMNS)
        .join(GRANTS, GRANTS.c.id == table.c.grant_id)
        .join(APPLICATIONS, APPLICATIONS.c.id == GRANTS.c.application_id)
        .where(table.c.digest == digest)
    )
    return connection.execute(statement).one_or_none()


def _read_both(row: Any) -> GrantOfToken:
    return GrantOfToken(read_application(row), _read_grant(row))


def _read_grant(row: Any) -> GrantRecord:
    fields = {name: getattr(row, f"grant_{name}") for name in _GRANT_FIELDS}
    fields["scopes"] = tuple(fields["scopes"])
    return GrantRecord(**fields)
