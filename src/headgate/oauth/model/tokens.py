"""Codes and tokens: random, and stored as their SHA-256 only.

The successor of a refresh token is derived from that token and a salt that is stored. So whoever
refreshes at the same time gets the same successor, a copy of the database yields none, and neither
does an old token alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets

from headgate.oauth.model.grant import ACCESS_TOKEN_PREFIX

REFRESH_TOKEN_PREFIX = "hg_ort_"
CODE_PREFIX = "hg_oac_"
SECRET_BYTES = 32
TOKEN_CHARACTERS_MAX = 128
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def make_access_token() -> str:
    return ACCESS_TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def make_refresh_token() -> str:
    return REFRESH_TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def make_code() -> str:
    return CODE_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def make_salt() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def hash_token(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def derive_successor(refresh_token: str, salt: bytes) -> str:
    """Return the refresh token that follows."""
    made = hmac.digest(salt, b"headgate.refresh.1\n" + refresh_token.encode(), "sha256")
    return REFRESH_TOKEN_PREFIX + base64.urlsafe_b64encode(made).rstrip(b"=").decode()


def is_challenge(text: str) -> bool:
    """Return whether this is a code challenge of the method S256 (RFC 7636)."""
    return _CHALLENGE.fullmatch(text) is not None


def is_verified(challenge: str, verifier: str) -> bool:
    if not _VERIFIER.fullmatch(verifier):
        return False
    digest = hashlib.sha256(verifier.encode()).digest()
    made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return hmac.compare_digest(made, challenge)
