"""The SQL of the sealed bodies of requests."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import build_insert

PAYLOADS = sa.Table(
    "request_payloads",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("key_id", sa.Text, sa.ForeignKey("organization_keys.id"), nullable=False, index=True),
    sa.Column("seal_number", sa.BigInteger, nullable=False),
)
_P = PAYLOADS.c
_INSERT = build_insert(PAYLOADS, ignore_known=True)


class SealedPayload(msgspec.Struct, frozen=True):
    """Hold the sealed bodies of one request, in the column order of the table."""

    id: str
    organization_id: str
    name: str
    sealed: bytes
    key_id: str
    seal_number: int


def insert(connection: sa.Connection, payload: SealedPayload) -> int:
    return _INSERT.run(connection, msgspec.structs.astuple(payload))


def find(connection: sa.Connection, request_id: str) -> SealedPayload | None:
    query = sa.select(PAYLOADS).where(_P.id == request_id, _P.sealed.is_not(None))
    row = connection.execute(query).first()
    return None if row is None else SealedPayload(*row)


def delete(connection: sa.Connection, request_ids: Sequence[str]) -> int:
    if not request_ids:
        return 0
    return connection.execute(sa.delete(PAYLOADS).where(_P.id.in_(request_ids))).rowcount
