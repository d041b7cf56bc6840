"""The signature of a request: its header, what it covers, and what is wrong with it."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from typing import Protocol

import msgspec

from headgate.kit.crypto import encode_fields
from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.ports import Grant

HEADER = "x-headgate-signature"
HEADER_BYTES_MAX = 2_048
VERSION = b"v1"
SIGNATURES_MAX = 4
"""How many signatures of one version a header may have."""
SECRET_PREFIX = "hg_sign_"
SECRET_BYTES = 32

_FORMS = {
    b"t": re.compile(rb"[0-9]{1,12}"),
    b"nonce": re.compile(rb"[A-Za-z0-9_-]{16,128}"),
    b"sha256": re.compile(rb"[0-9a-f]{64}"),
}
_MAC = re.compile(rb"[0-9a-f]{64}")
_FORM = (
    "`x-headgate-signature: t=<unix seconds>,nonce=<16 to 128 letters, digits, _ and ->,"
    "sha256=<hex digest of the body>,v1=<hex HMAC-SHA256>`"
)


class SignatureRequiredError(HeadgateError):
    """The API key accepts signed requests only, and the request carries no signature.

    Sign the request with the signing secret of the key, as docs/signatures.md shows.
    """

    kind = Kind.UNAUTHENTICATED
    code = "signature_required"


class InvalidSignatureError(HeadgateError):
    """The signature of the request is malformed, or was made with another secret or for another
    request.

    Sign method, path with query, time, nonce and body exactly as they are sent.
    """

    kind = Kind.UNAUTHENTICATED
    code = "invalid_signature"


class ExpiredSignatureError(HeadgateError):
    """The request was signed too long ago, or with a clock that is wrong.

    Sign each try anew, and set the clock of the client.
    """

    kind = Kind.UNAUTHENTICATED
    code = "signature_expired"


class ReusedNonceError(HeadgateError):
    """The nonce of the signature was used before, so the request is a replay.

    Sign each try with a new nonce. To repeat a call safely, send an `Idempotency-Key` with it.
    """

    kind = Kind.UNAUTHENTICATED
    code = "nonce_reused"


class Signature(msgspec.Struct, frozen=True):
    """Hold a parsed header. `at` is in unix seconds as it was written, digests are in hex."""

    at: bytes
    nonce: bytes
    body_digest: bytes
    macs: tuple[bytes, ...]


class SignedRequest(msgspec.Struct, frozen=True):
    """Hold what is left to check of a request whose signature is right: its body, and that its
    nonce is new. The nonce is kept until `until` (unix seconds)."""

    id: bytes
    until: float
    body_digest: bytes


class Signatures(Protocol):
    """Check the signatures of requests."""

    def check(
        self, grant: Grant, method: bytes, target: bytes, header: bytes | None
    ) -> SignedRequest:
        """Check a signature against the secrets of the key. `header` is None for a request without
        one, and empty for one that was sent twice.

        Raise `SignatureRequiredError`, `InvalidSignatureError` and `ExpiredSignatureError`.
        """
        ...

    def claim(self, signed: SignedRequest) -> Awaitable[None]:
        """Use up the nonce, committed on return. Raise `ReusedNonceError`, and a `HeadgateError` of
        kind UNAVAILABLE."""
        ...


def check_values(
    signatures: Signatures, grant: Grant, method: bytes, target: bytes, values: Sequence[bytes]
) -> SignedRequest | None:
    """Check the signature of a request by all values of its header; None for a request without one
    whose key needs none. Raise as `Signatures.check`."""
    if not values and not grant.requires_signature:
        return None
    header = values[0] if len(values) == 1 else b"" if values else None
    return signatures.check(grant, method, target, header)


def make_secret() -> str:
    return SECRET_PREFIX + secrets.token_hex(SECRET_BYTES)


def parse_signature(header: bytes) -> Signature:
    """Parse the header. Unknown parts are ignored. Raise `InvalidSignatureError`."""
    parts: dict[bytes, bytes] = {}
    macs: list[bytes] = []
    for part in header[:HEADER_BYTES_MAX].split(b","):
        name, _, value = part.strip().partition(b"=")
        if name == VERSION:
            macs.append(value)
        elif name in _FORMS:
            if name in parts or not _FORMS[name].fullmatch(value):
                raise _malformed(f"its part `{name.decode()}` is malformed or there twice")
            parts[name] = value
    missing = [name.decode() for name in _FORMS if name not in parts]
    if missing:
        raise _malformed(f"it lacks {', '.join(missing)}, or was sent twice")
    if not 1 <= len(macs) <= SIGNATURES_MAX or not all(map(_MAC.fullmatch, macs)):
        raise _malformed("its part `v1` is missing or malformed")
    return Signature(parts[b"t"], parts[b"nonce"], parts[b"sha256"], tuple(macs))


def describe_request(method: bytes, target: bytes, signature: Signature) -> bytes:
    """Return what is signed: one line each for version, method, path with query, time, nonce and
    digest of the body."""
    return b"\n".join(
        (VERSION, method, target, signature.at, signature.nonce, signature.body_digest)
    )


def is_signed_with(secrets_: Sequence[bytes], message: bytes, signature: Signature) -> bool:
    """Return whether one of the signatures was made with one of the secrets. All are compared, in
    constant time."""
    is_right = False
    for secret in secrets_:
        mac = hmac.digest(secret, message, "sha256").hex().encode()
        for each in signature.macs:
            is_right |= hmac.compare_digest(mac, each)
    return is_right


def find_nonce_id(key_id: str, nonce: bytes) -> bytes:
    return hashlib.sha256(encode_fields("headgate.nonce.1", key_id, nonce)).digest()


def check_body(signed: SignedRequest, body: bytes) -> None:
    """Raise `InvalidSignatureError` for another body than the one that was signed."""
    _compare(signed, hashlib.sha256(body).hexdigest())


async def check_stream(
    signed: SignedRequest, pieces: AsyncIterator[bytes]
) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a body; the last one only if it is the body that was signed.

    Raise `InvalidSignatureError`.
    """
    digest = hashlib.sha256()
    withheld: bytes | None = None
    async for piece in pieces:
        digest.update(piece)
        if withheld is not None:
            yield withheld
        withheld = piece
    _compare(signed, digest.hexdigest())
    if withheld is not None:
        yield withheld


def _compare(signed: SignedRequest, digest: str) -> None:
    if not hmac.compare_digest(digest.encode(), signed.body_digest):
        raise InvalidSignatureError(
            "The body is another one than was signed: its SHA-256 is not the `sha256` of the "
            "signature. Sign the bytes that are sent, after compression.",
            should_retry=False,
        )


def _malformed(problem: str) -> InvalidSignatureError:
    return InvalidSignatureError(
        f"The signature cannot be read: {problem}. It has the form {_FORM}.", should_retry=False
    )
