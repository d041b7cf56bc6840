"""Issue signing secrets, and check the signatures of requests against them."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Mapping

import msgspec
import sqlalchemy as sa
import structlog

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.keys.model import InvalidKeyRequestError, Key, KeyConflictError, KeyState, find_state
from headgate.keys.service import Authority
from headgate.keys.service.authority import FULL_AUTHORITY, check_authority
from headgate.kit.clock import Clock
from headgate.kit.crypto import BrokenSealError
from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.ports import Grant
from headgate.signatures import store
from headgate.signatures.model import (
    HEADER,
    ExpiredSignatureError,
    InvalidSignatureError,
    SignatureRequiredError,
    SignedRequest,
    describe_request,
    find_nonce_id,
    is_signed_with,
    make_secret,
    parse_signature,
)
from headgate.signatures.store import TOPIC, NonceStore, SigningSecretRecord
from headgate.vault.model.sealed_row import SigningSecretRow
from headgate.vault.service import Sealer, open_signing_secret, seal_signing_secret

__all__ = [
    "OVERLAP_SECONDS_MAX",
    "TOPIC",
    "NonceStore",
    "RequestSignatures",
    "SigningSecretIndex",
    "SigningSecretService",
    "SigningSecretState",
]

OVERLAP_SECONDS_MAX = 30 * 86_400

log = structlog.get_logger(__name__)


class SigningSecretNotFoundError(HeadgateError):
    """The API key has no signing secret.

    Create one with `headgate keys signing-secret` or `POST /api/api-keys/{key_id}/signing-secret`.
    """

    kind = Kind.MISSING
    code = "not_found"


class SigningSecretState(msgspec.Struct, frozen=True):
    """Tell since when a key has its signing secret, and until when the one from before is accepted
    as well. Times are unix seconds."""

    created_at: float
    previous_expires_at: float | None = None


class SigningSecretService:
    """Manage the signing secrets of API keys. The caller commits."""

    def __init__(self, sealer: Sealer, *, clock: Clock, audit: AuditLog) -> None:
        self._sealer = sealer
        self._clock = clock
        self._audit = audit

    def issue(
        self,
        connection: sa.Connection,
        key: Key,
        *,
        overlap_seconds: float = 0.0,
        by: Actor,
        authority: Authority = FULL_AUTHORITY,
    ) -> str:
        """Return a new signing secret of a key, which is shown only here. The current one stays
        valid for the overlap, an older one ends.

        Raise `InvalidKeyRequestError`, `KeyConflictError` for a key that is revoked or expired, and
        `ScopeExceededError`.
        """
        now = self._clock.now()
        if find_state(key, now) in (KeyState.REVOKED, KeyState.EXPIRED):
            raise KeyConflictError("The key is revoked or expired for good. Issue another one.")
        check_authority(key, authority)
        if not 0 <= overlap_seconds <= OVERLAP_SECONDS_MAX:
            message = f"An overlap is 0 to {OVERLAP_SECONDS_MAX} seconds."
            raise InvalidKeyRequestError(message, param="overlap_seconds")
        store.expire_secrets(connection, key.id, now=now, until=now + overlap_seconds)
        secret = make_secret()
        sealing_key_id, sealing_key = self._sealer.current_key(connection, key.organization_id)
        record = SigningSecretRow(
            id=f"sig_{secrets.token_hex(12)}",
            organization_id=key.organization_id,
            api_key_id=key.id,
            key_id=sealing_key_id,
            seal_number=1,
        )
        row = SigningSecretRecord(
            **msgspec.structs.asdict(record),
            name=key.name,
            created_at=now,
            expires_at=None,
            sealed=seal_signing_secret(sealing_key, secret, record),
        )
        store.insert_secret(connection, row)
        fields = {"overlap_seconds": overlap_seconds}
        self._record(connection, by, "key.signing_secret_issued", key, fields)
        return secret

    def delete(self, connection: sa.Connection, key: Key, *, by: Actor) -> None:
        """Delete the signing secrets of a key. Raise `KeyConflictError` for a key that requires
        signatures, and `SigningSecretNotFoundError`."""
        if key.requires_signature:
            raise KeyConflictError(
                "The key requires signatures, so it needs its signing secret. Let it accept "
                "unsigned requests first (`requires_signature`), or revoke it."
            )
        if not store.delete_secrets(connection, key.id):
            raise _missing(key)
        self._record(connection, by, "key.signing_secret_deleted", key, {})

    def check_usable(self, connection: sa.Connection, key: Key) -> None:
        """Raise `KeyConflictError` for a key without a signing secret: it could not be used."""
        try:
            self.read(connection, key)
        except SigningSecretNotFoundError as error:
            raise KeyConflictError(
                "The key has no signing secret, so it could sign no request. Create one first: "
                "`headgate keys signing-secret`, or POST /api/api-keys/{key_id}/signing-secret."
            ) from error

    def read(self, connection: sa.Connection, key: Key) -> SigningSecretState:
        """Return the state of the secrets of a key. Raise `SigningSecretNotFoundError`."""
        now = self._clock.now()
        current: SigningSecretRecord | None = None
        previous_expires_at = None
        for row in store.select_secrets(connection, key.id):
            if row.expires_at is None:
                current = row
            elif row.expires_at > now:
                previous_expires_at = row.expires_at
        if current is None:
            raise _missing(key)
        return SigningSecretState(current.created_at, previous_expires_at)

    def _record(
        self,
        connection: sa.Connection,
        by: Actor,
        action: str,
        key: Key,
        fields: dict[str, float],
    ) -> None:
        self._audit.record(connection, by, AuditEvent(action, key.organization_id, key.id, fields))


class SigningSecretIndex:
    """Hold the opened signing secrets of all keys. `load` replaces everything at once."""

    def __init__(self) -> None:
        self._secrets: Mapping[str, tuple[tuple[bytes, float | None], ...]] = {}
        self._opened: dict[str, bytes] = {}
        self.is_loaded = False

    def find(self, key_id: str, now: float) -> list[bytes]:
        """Return the secrets with which a key may sign at a time."""
        known = self._secrets.get(key_id, ())
        return [secret for secret, until in known if until is None or now < until]

    def load(self, connection: sa.Connection, sealer: Sealer) -> None:
        """Read all secrets. One that does not open is left out, and logged: what it signed is
        refused."""
        keys = None
        opened: dict[str, bytes] = {}
        found: dict[str, tuple[tuple[bytes, float | None], ...]] = {}
        for row in store.select_secrets(connection):
            secret = self._opened.get(row.id)
            if secret is None:
                keys = sealer.organization_keys(connection) if keys is None else keys
                bound = msgspec.convert(row, SigningSecretRow, from_attributes=True)
                try:
                    secret = open_signing_secret(keys[row.key_id], row.sealed, bound).encode()
                except (BrokenSealError, KeyError):
                    log.error("signatures.secret_unreadable", key=row.api_key_id)
                    continue
            opened[row.id] = secret
            found[row.api_key_id] = (*found.get(row.api_key_id, ()), (secret, row.expires_at))
        self._secrets, self._opened = found, opened
        self.is_loaded = True


class RequestSignatures:
    """Implement `signatures.model.Signatures`.

    A request is accepted for `window_seconds` before and after the time that it names, once. Its
    nonce is kept twice as long, so that processes whose clocks differ do not accept it again.
    """

    def __init__(
        self,
        index: SigningSecretIndex,
        nonces: NonceStore,
        clock: Clock,
        *,
        window_seconds: float,
    ) -> None:
        self._index = index
        self._nonces = nonces
        self._clock = clock
        self._window_seconds = window_seconds

    def check(
        self, grant: Grant, method: bytes, target: bytes, header: bytes | None
    ) -> SignedRequest:
        if header is None:
            raise SignatureRequiredError(
                f"This API key accepts signed requests only. Send the header `{HEADER}`, made with "
                "the signing secret of the key.",
                should_retry=False,
            )
        signature = parse_signature(header)
        now = self._clock.now()
        known = self._index.find(grant.key_id, now)
        if not known:
            raise InvalidSignatureError(
                "The request is signed, and this API key has no signing secret. Create one with "
                "`headgate keys signing-secret`.",
                should_retry=False,
            )
        if not is_signed_with(known, describe_request(method, target, signature), signature):
            raise InvalidSignatureError(
                "The signature does not fit the request. It covers six lines: v1, the method, the "
                "path with its query, and `t`, `nonce` and `sha256` of the header. They are signed "
                "with the whole text of the signing secret.",
                should_retry=False,
            )
        at = int(signature.at)
        if not abs(now - at) <= self._window_seconds:
            raise ExpiredSignatureError(
                f"The request was signed for {at}, and it is {int(now)} here: more than "
                f"{self._window_seconds:g} seconds apart. Sign each try anew, and set the clock of "
                "the client.",
                should_retry=False,
            )
        nonce_id = find_nonce_id(grant.key_id, signature.nonce)
        return SignedRequest(nonce_id, at + 2 * self._window_seconds, signature.body_digest)

    def claim(self, signed: SignedRequest) -> Awaitable[None]:
        return self._nonces.claim(signed)


def _missing(key: Key) -> SigningSecretNotFoundError:
    return SigningSecretNotFoundError(f"The key {key.id} has no signing secret.")
