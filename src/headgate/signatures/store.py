"""The SQL of signing secrets and of used nonces."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence

import msgspec
import sqlalchemy as sa

from headgate.kit.clock import Clock
from headgate.kit.db.overlap import expire_rows
from headgate.kit.db.schema import METADATA, bump_revision, count_rows
from headgate.kit.db.statement import build_insert
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.failpoint import failpoint
from headgate.signatures.model import ReusedNonceError, SignedRequest

TOPIC = "signing_secrets"
DELETED_AT_ONCE = 1_000

SECRETS = sa.Table(
    "signing_secrets",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False),
    sa.Column("api_key_id", sa.Text, sa.ForeignKey("keys.id"), nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("key_id", sa.Text, sa.ForeignKey("organization_keys.id"), nullable=False, index=True),
    sa.Column("seal_number", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
)
NONCES = sa.Table(
    "request_nonces",
    METADATA,
    sa.Column("id", sa.LargeBinary(32), primary_key=True),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
)
_INSERT_NONCE = build_insert(NONCES, ignore_known=True)


class SigningSecretRecord(msgspec.Struct, frozen=True):
    """Hold a sealed signing secret. Without `expires_at` it is the current one of its key."""

    id: str
    organization_id: str
    api_key_id: str
    name: str
    key_id: str
    seal_number: int
    created_at: float
    expires_at: float | None
    sealed: bytes


_FIELDS = SigningSecretRecord.__struct_fields__


class NoncesFullError(HeadgateError):
    """The table of nonces is full, so no further signed request is accepted.

    Send the request later, or raise HEADGATE_SIGNATURE_NONCES_MAX.
    """

    kind = Kind.UNAVAILABLE
    code = "nonce_store_full"


class NonceStore:
    """Accept each nonce once, for all processes. `rows_max` bounds how many are kept."""

    def __init__(self, writer: Writer, clock: Clock, *, rows_max: int) -> None:
        self._writer = writer
        self._clock = clock
        self._rows_max = rows_max
        self._rows = 0
        # Durable: after a power failure, too, a request must not be accepted again.
        self._queue = writer.create_queue(
            self._claim_all, durable=True, lock_name=lambda signed: f"nonce:{signed.id.hex()}"
        )

    def claim(self, signed: SignedRequest) -> Awaitable[None]:
        """Use up a nonce, committed on return. Raise `ReusedNonceError` and `NoncesFullError`."""
        return self._queue.put(signed)

    async def prune(self) -> int:
        """Delete nonces whose signatures have expired; return how many."""
        deleted = 0
        while some := await self._writer.call(self._prune_some):
            deleted += some
        await self._writer.call(self._count)
        return deleted

    def _claim_all(
        self, connection: sa.Connection, requests: Sequence[SignedRequest]
    ) -> Sequence[Exception | None]:
        if self._rows + len(requests) > self._rows_max:
            while self._prune_some(connection):
                pass
            self._count(connection)
        return [self._claim(connection, signed) for signed in requests]

    def _claim(self, connection: sa.Connection, signed: SignedRequest) -> Exception | None:
        if self._rows >= self._rows_max:
            return NoncesFullError(
                f"{self._rows} nonces are kept, and HEADGATE_SIGNATURE_NONCES_MAX allows no more. "
                "Nothing was done. Send the request again in a minute.",
                should_retry=False,
            )
        if not _INSERT_NONCE.run(connection, (signed.id, signed.until)):
            return ReusedNonceError(
                "The nonce of this signature was used before. Sign each try with a new nonce; to "
                "repeat a call safely, send an Idempotency-Key with it.",
                should_retry=False,
            )
        self._rows += 1
        failpoint("nonce_inserted")
        return None

    def _prune_some(self, connection: sa.Connection) -> int:
        expired = sa.select(NONCES.c.id).where(NONCES.c.expires_at <= self._clock.now())
        expired = expired.limit(DELETED_AT_ONCE)
        return connection.execute(sa.delete(NONCES).where(NONCES.c.id.in_(expired))).rowcount

    def _count(self, connection: sa.Connection) -> None:
        self._rows = count_rows(connection, NONCES)


def note_change(connection: sa.Connection) -> None:
    """Let every process reload the secrets."""
    bump_revision(connection, TOPIC)


def insert_secret(connection: sa.Connection, secret: SigningSecretRecord) -> None:
    connection.execute(sa.insert(SECRETS).values(**msgspec.structs.asdict(secret)))
    note_change(connection)


def expire_secrets(connection: sa.Connection, api_key_id: str, *, now: float, until: float) -> None:
    """Let the current secret end at a time, and delete those from before."""
    expire_rows(connection, SECRETS, SECRETS.c.api_key_id == api_key_id, now=now, until=until)


def delete_secrets(connection: sa.Connection, api_key_id: str) -> int:
    """Delete all secrets of a key; return how many."""
    count = connection.execute(
        sa.delete(SECRETS).where(SECRETS.c.api_key_id == api_key_id)
    ).rowcount
    note_change(connection)
    return count


def select_secrets(
    connection: sa.Connection, api_key_id: str | None = None
) -> Iterator[SigningSecretRecord]:
    """Yield the secrets of all keys, or of one, the newest first."""
    statement = sa.select(SECRETS).where(SECRETS.c.sealed.is_not(None))
    if api_key_id is not None:
        statement = statement.where(SECRETS.c.api_key_id == api_key_id)
    for row in connection.execute(statement.order_by(SECRETS.c.created_at.desc())):
        yield SigningSecretRecord(*(getattr(row, name) for name in _FIELDS))
