"""Make keys that are nobody's from keys that are somebody's."""

from __future__ import annotations


def spoil_key(key: str) -> str:
    """Return the key with another last character."""
    return key[:-1] + ("1" if key.endswith("0") else "0")
