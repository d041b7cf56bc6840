"""Random tokens of sessions and invitations, of which only hashes are stored."""

from __future__ import annotations

import base64
import hashlib
import secrets

TOKEN_BYTES = 32
TOKEN_CHARACTERS_MAX = 128


def make_token(prefix: str = "") -> str:
    """Return 256 random bits in URL-safe characters."""
    return prefix + secrets.token_urlsafe(TOKEN_BYTES)


def hash_token(token: str) -> bytes:
    """Return the SHA-256 by which a token is looked up. It needs no slow hash: nobody guesses 256
    bits."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def derive_token(token: str, purpose: str) -> str:
    """Derive a token from which this one cannot be recovered."""
    made = hashlib.sha256(f"headgate.{purpose}.1\n{token}".encode("utf-8", "replace")).digest()
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()
