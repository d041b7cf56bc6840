"""Random tokens of sessions and invitations: what is stored of them does not open anything."""

from __future__ import annotations

import base64
import hashlib
import secrets

TOKEN_BYTES = 32
TOKEN_CHARACTERS_MAX = 128


def make_token(prefix: str = "") -> str:
    """256 random bits in letters that a URL can carry."""
    return prefix + secrets.token_urlsafe(TOKEN_BYTES)


def hash_token(token: str) -> bytes:
    """By what a token is found again. No slow hash: nobody guesses 256 bits."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def derive_token(token: str, purpose: str) -> str:
    """Another token that follows from this one and does not lead back to it."""
    made = hashlib.sha256(f"headgate.{purpose}.1\n{token}".encode("utf-8", "replace")).digest()
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()
