"""The SQL of people, their memberships and linked identities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import LinkedIdentity, Member, Membership, Person, Role
from headgate.accounts.store.tenants import ORGANIZATIONS
from headgate.kit.db.schema import METADATA, count_rows

PEOPLE = sa.Table(
    "people",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("email", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("password_hash", sa.Text),
    sa.Column("is_operator", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("email_verified_at", sa.Double),
    sa.Column("disabled_at", sa.Double),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
)

MEMBERSHIPS = sa.Table(
    "memberships",
    METADATA,
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False),
    sa.Column("person_id", sa.Text, sa.ForeignKey("people.id"), nullable=False, index=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.PrimaryKeyConstraint("organization_id", "person_id"),
)

IDENTITIES = sa.Table(
    "identities",
    METADATA,
    sa.Column("issuer", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("person_id", sa.Text, sa.ForeignKey("people.id"), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.PrimaryKeyConstraint("issuer", "subject"),
)
sa.Index("uq_identities_person_id", IDENTITIES.c.person_id, IDENTITIES.c.issuer, unique=True)

PERSON_COLUMNS = [PEOPLE.c[name] for name in Person.__struct_fields__]


def insert_person(connection: sa.Connection, person: Person, *, password_hash: str | None) -> None:
    values = msgspec.structs.asdict(person)
    connection.execute(sa.insert(PEOPLE).values(**values, password_hash=password_hash))


def update_person(connection: sa.Connection, person_id: str, values: Mapping[str, Any]) -> None:
    connection.execute(
        sa.update(PEOPLE)
        .where(PEOPLE.c.id == person_id)
        .values(**values, version=PEOPLE.c.version + 1)
    )


def select_person(connection: sa.Connection, person_id: str) -> Person | None:
    return _read_person(connection, PEOPLE.c.id == person_id)


def select_person_by_email(connection: sa.Connection, email: str) -> Person | None:
    return _read_person(connection, PEOPLE.c.email == email)


def select_person_by_identity(
    connection: sa.Connection, issuer: str, subject: str
) -> Person | None:
    known = sa.select(IDENTITIES.c.person_id).where(
        IDENTITIES.c.issuer == issuer, IDENTITIES.c.subject == subject
    )
    return _read_person(connection, PEOPLE.c.id.in_(known))


def select_password_hash(connection: sa.Connection, person_id: str) -> str | None:
    statement = sa.select(PEOPLE.c.password_hash).where(PEOPLE.c.id == person_id)
    return connection.execute(statement).scalar_one_or_none()


def select_people(connection: sa.Connection, *, limit: int, offset: int) -> list[Person]:
    statement = (
        sa.select(*PERSON_COLUMNS)
        .order_by(PEOPLE.c.created_at, PEOPLE.c.id)
        .limit(limit)
        .offset(offset)
    )
    return [_person(row) for row in connection.execute(statement)]


def count_people(connection: sa.Connection) -> int:
    return count_rows(connection, PEOPLE)


def count_operators(connection: sa.Connection) -> int:
    return count_rows(connection, PEOPLE, PEOPLE.c.is_operator, PEOPLE.c.disabled_at.is_(None))


def insert_identity(connection: sa.Connection, identity: LinkedIdentity) -> None:
    connection.execute(sa.insert(IDENTITIES).values(msgspec.structs.asdict(identity)))


def select_subject(connection: sa.Connection, person_id: str, issuer: str) -> str | None:
    statement = sa.select(IDENTITIES.c.subject).where(
        IDENTITIES.c.person_id == person_id, IDENTITIES.c.issuer == issuer
    )
    return connection.execute(statement).scalar_one_or_none()


def select_memberships(connection: sa.Connection, person_id: str) -> tuple[Membership, ...]:
    statement = (
        sa.select(
            ORGANIZATIONS.c.id,
            ORGANIZATIONS.c.name,
            MEMBERSHIPS.c.role,
            ORGANIZATIONS.c.suspended_at,
        )
        .join(ORGANIZATIONS, ORGANIZATIONS.c.id == MEMBERSHIPS.c.organization_id)
        .where(MEMBERSHIPS.c.person_id == person_id)
        .order_by(ORGANIZATIONS.c.created_at, ORGANIZATIONS.c.id)
    )
    return tuple(
        Membership(
            organization_id=row.id,
            organization_name=row.name,
            role=Role(row.role),
            suspended_at=row.suspended_at,
        )
        for row in connection.execute(statement)
    )


def insert_membership(
    connection: sa.Connection, organization_id: str, person_id: str, *, role: Role, at: float
) -> None:
    connection.execute(
        sa.insert(MEMBERSHIPS).values(
            organization_id=organization_id, person_id=person_id, role=role.value, created_at=at
        )
    )


def update_role(
    connection: sa.Connection, organization_id: str, person_id: str, role: Role
) -> None:
    connection.execute(
        sa.update(MEMBERSHIPS)
        .where(*_membership(organization_id, person_id))
        .values(role=role.value, version=MEMBERSHIPS.c.version + 1)
    )


def delete_membership(connection: sa.Connection, organization_id: str, person_id: str) -> None:
    connection.execute(sa.delete(MEMBERSHIPS).where(*_membership(organization_id, person_id)))


def select_members(
    connection: sa.Connection, organization_id: str, *, limit: int, offset: int
) -> list[Member]:
    statement = (
        _members()
        .where(MEMBERSHIPS.c.organization_id == organization_id)
        .order_by(MEMBERSHIPS.c.created_at, PEOPLE.c.id)
        .limit(limit)
        .offset(offset)
    )
    return [_member(row) for row in connection.execute(statement)]


def select_member(connection: sa.Connection, organization_id: str, person_id: str) -> Member | None:
    statement = _members().where(*_membership(organization_id, person_id))
    row = connection.execute(statement).one_or_none()
    return None if row is None else _member(row)


def count_members(
    connection: sa.Connection, organization_id: str, *, role: Role | None = None
) -> int:
    conditions = [MEMBERSHIPS.c.organization_id == organization_id]
    if role is not None:
        conditions.append(MEMBERSHIPS.c.role == role.value)
    return count_rows(connection, MEMBERSHIPS, *conditions)


def _read_person(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> Person | None:
    row = connection.execute(sa.select(*PERSON_COLUMNS).where(condition)).one_or_none()
    return None if row is None else _person(row)


def _person(row: sa.Row[Any]) -> Person:
    return msgspec.convert(dict(zip(Person.__struct_fields__, row, strict=True)), Person)


def _members() -> sa.Select[*tuple[Any, ...]]:
    return sa.select(
        MEMBERSHIPS.c.person_id,
        PEOPLE.c.email,
        PEOPLE.c.name,
        MEMBERSHIPS.c.role,
        MEMBERSHIPS.c.created_at,
        PEOPLE.c.disabled_at,
        MEMBERSHIPS.c.version,
    ).join(PEOPLE, PEOPLE.c.id == MEMBERSHIPS.c.person_id)


def _member(row: sa.Row[Any]) -> Member:
    return msgspec.convert(dict(zip(Member.__struct_fields__, row, strict=True)), Member)


def _membership(organization_id: str, person_id: str) -> list[sa.ColumnElement[bool]]:
    return [
        MEMBERSHIPS.c.organization_id == organization_id,
        MEMBERSHIPS.c.person_id == person_id,
    ]
