"""Seal and authenticate small secrets: AES-256-GCM that commits to its key.

A box is `version (1) | key id (8) | commitment (32) | nonce (12) | ciphertext and tag`. All of its
header is authenticated along with what the caller binds it to. GCM alone lets one ciphertext open
under two keys; the commitment, derived from key and nonce, rules that out.
"""

from __future__ import annotations

import hmac
import secrets
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
KEY_ID_BYTES = 8
_VERSION = b"\x01"
_COMMITMENT_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEADER_BYTES = 1 + KEY_ID_BYTES + _COMMITMENT_BYTES + _NONCE_BYTES
_WRAPPED_KEY_BYTES = _HEADER_BYTES + KEY_BYTES + _TAG_BYTES


class BrokenSealError(Exception):
    """Report a box that was sealed by another key, for another purpose, or changed since."""


class SecretKey:
    """Hold 32 bytes that seal and open. `id` is derived from them and may be shown."""

    __slots__ = ("id", "material")

    def __init__(self, material: bytes) -> None:
        assert len(material) == KEY_BYTES, "a key has 32 bytes"
        self.material = material
        self.id = _derive(material, b"", b"headgate key id", KEY_ID_BYTES)

    @classmethod
    def generate(cls) -> SecretKey:
        return cls(secrets.token_bytes(KEY_BYTES))


def seal(key: SecretKey, plaintext: bytes, *, bound_to: bytes) -> bytes:
    """Return a box that only this key opens, and only with the same `bound_to`."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    header = _VERSION + key.id + _commit(key, nonce) + nonce
    return header + AESGCM(key.material).encrypt(nonce, plaintext, encode_fields(header, bound_to))


def open_box(key: SecretKey, box: bytes, *, bound_to: bytes) -> bytes:
    """Return what was sealed. Raise `BrokenSealError`."""
    header, ciphertext = box[:_HEADER_BYTES], box[_HEADER_BYTES:]
    nonce = header[-_NONCE_BYTES:]
    expected = _VERSION + key.id + _commit(key, nonce) + nonce
    if not hmac.compare_digest(header, expected):
        raise BrokenSealError
    try:
        return AESGCM(key.material).decrypt(nonce, ciphertext, encode_fields(header, bound_to))
    except InvalidTag as error:
        raise BrokenSealError from error


def seal_envelope(key: SecretKey, plaintext: bytes, *, bound_to: bytes) -> bytes:
    """Seal under a fresh key, which is itself sealed under `key` and placed in front."""
    own_key = SecretKey.generate()
    wrapped = seal(key, own_key.material, bound_to=bound_to)
    return wrapped + seal(own_key, plaintext, bound_to=bound_to)


def open_envelope(key: SecretKey, envelope: bytes, *, bound_to: bytes) -> bytes:
    """Return what `seal_envelope` sealed. Raise `BrokenSealError`."""
    wrapped, box = envelope[:_WRAPPED_KEY_BYTES], envelope[_WRAPPED_KEY_BYTES:]
    own_key = SecretKey(open_box(key, wrapped, bound_to=bound_to))
    return open_box(own_key, box, bound_to=bound_to)


def encode_fields(*fields: str | bytes) -> bytes:
    """Encode fields unambiguously: each is preceded by its length."""
    encoded = [field.encode() if isinstance(field, str) else field for field in fields]
    return b"".join(struct.pack(">I", len(field)) + field for field in encoded)


def derive_bytes(key: SecretKey, purpose: bytes) -> bytes:
    """Return 32 bytes that only who has the key can derive, the same for each purpose."""
    return _derive(key.material, b"", b"headgate derived " + purpose, KEY_BYTES)


def _commit(key: SecretKey, nonce: bytes) -> bytes:
    return _derive(key.material, nonce, b"headgate key commitment", _COMMITMENT_BYTES)


def _derive(material: bytes, salt: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, purpose).derive(material)
