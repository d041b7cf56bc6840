"""Store responses for repeated requests, in the transaction of their effect.

A claim identifies who asked for what under which idempotency key. The response is sealed with a key
derived from the caller's secret: it may hold a secret that is shown once, and is of no use to
whoever has only the database.
"""

from __future__ import annotations

import hashlib

import msgspec
import sqlalchemy as sa

from headgate.kit.crypto import SecretKey, encode_fields, open_box, seal
from headgate.kit.db.schema import METADATA

REPLAY_SECONDS = 86_400

IDEMPOTENT_RESPONSES = sa.Table(
    "repetitions",
    METADATA,
    sa.Column("claim", sa.LargeBinary(32), primary_key=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("answer", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False, index=True),
)


class IdempotencyClaim(msgspec.Struct, frozen=True):
    """Identify a request that may be repeated: the caller's secret, its key, what it asks."""

    proof: bytes
    key: str
    target: str
    body: bytes

    def __repr__(self) -> str:
        return f"Claim({self.target})"

    @property
    def id(self) -> bytes:
        return hashlib.sha256(
            encode_fields("headgate.claim.1", self.proof, self.target, self.key)
        ).digest()

    @property
    def digest(self) -> bytes:
        """Return the hash that tells one body from another."""
        return hashlib.sha256(self.body).digest()

    @property
    def seal_key(self) -> SecretKey:
        """Return the key that seals the response; only the caller's secret yields it."""
        fields = encode_fields("headgate.claim_seal.1", self.proof, self.target, self.key)
        return SecretKey(hashlib.sha256(fields).digest())


class IdempotencyMismatchError(Exception):
    """Report an idempotency key that was used before with another body."""


def find_response(
    connection: sa.Connection, claim: IdempotencyClaim, *, now: float
) -> bytes | None:
    """Return the response to the first request, None if this is the first. Raise
    `IdempotencyMismatchError`."""
    statement = sa.select(IDEMPOTENT_RESPONSES).where(
        IDEMPOTENT_RESPONSES.c.claim == claim.id,
        IDEMPOTENT_RESPONSES.c.created_at > now - REPLAY_SECONDS,
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    if row.digest != claim.digest:
        raise IdempotencyMismatchError
    return open_box(claim.seal_key, row.answer, bound_to=claim.id)


def store_response(
    connection: sa.Connection, claim: IdempotencyClaim, answer: bytes, *, now: float
) -> None:
    """Store the response to a first request, in the transaction of its effect."""
    connection.execute(
        sa.delete(IDEMPOTENT_RESPONSES).where(IDEMPOTENT_RESPONSES.c.claim == claim.id)
    )
    connection.execute(
        sa.insert(IDEMPOTENT_RESPONSES).values(
            claim=claim.id,
            digest=claim.digest,
            answer=seal(claim.seal_key, answer, bound_to=claim.id),
            created_at=now,
        )
    )


def delete_expired_responses(connection: sa.Connection, *, now: float) -> int:
    """Delete the responses that are no longer replayed; return how many."""
    old = IDEMPOTENT_RESPONSES.c.created_at <= now - REPLAY_SECONDS
    return connection.execute(sa.delete(IDEMPOTENT_RESPONSES).where(old)).rowcount
