"""The format of API key tokens.

A token reads `hg_live_<public id>_<secret><checksum>`: the kind, 12 characters that may be shown, a
256-bit secret, and a CRC-32 of everything before it. The checksum tells a typing error, and answers
a scanner for leaked secrets, without a database. All but the prefix is base 62, so that a double
click selects it. Rotation keeps the public id and replaces the secret.
"""

from __future__ import annotations

import enum
import secrets
import zlib

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_PREFIX = "key_"
PUBLIC_ID_LENGTH = 12
SECRET_BYTES = 32
SECRET_LENGTH = 43
CHECKSUM_LENGTH = 6
# Longer tokens are refused before they are hashed.
TOKEN_LENGTH_MAX = 128


class KeyKind(enum.Enum):
    """Name what a key is for. The value is part of its token."""

    LIVE = "live"
    """Inference: model calls."""
    ADMIN = "admin"
    """Management: the platform's own API, and no model calls."""


def make_token(kind: KeyKind, key_id: str | None = None) -> tuple[str, str]:
    """Return a new token and the id of its key, which is new unless given."""
    public_id = (key_id or "").removeprefix(ID_PREFIX)
    if not public_id:
        public_id = "".join(secrets.choice(ALPHABET) for _ in range(PUBLIC_ID_LENGTH))
    secret = encode_base62(int.from_bytes(secrets.token_bytes(SECRET_BYTES)), SECRET_LENGTH)
    body = f"hg_{kind.value}_{public_id}_{secret}"
    return body + _checksum(body.encode()), ID_PREFIX + public_id


def read_public_prefix(token: bytes) -> str | None:
    """Return the public part `hg_live_<public id>` of a well-formed token, else None."""
    body, checksum = token[:-CHECKSUM_LENGTH], token[-CHECKSUM_LENGTH:]
    prefix, _, rest = body.rpartition(b"_")
    kind, _, public_id = prefix.rpartition(b"_")
    well_formed = (
        kind in _KIND_PREFIXES
        and len(public_id) == PUBLIC_ID_LENGTH
        and len(rest) == SECRET_LENGTH
        and (public_id + rest).isalnum()
        and _checksum(body).encode() == checksum
    )
    return prefix.decode() if well_formed else None


def encode_base62(number: int, length: int) -> str:
    """Encode a number with leading zeros."""
    digits: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    assert number == 0, "the number does not fit"
    return "".join(reversed(digits))


def _checksum(body: bytes) -> str:
    return encode_base62(zlib.crc32(body), CHECKSUM_LENGTH)


_KIND_PREFIXES = frozenset(f"hg_{kind.value}".encode() for kind in KeyKind)
