"""Replaces randomness: everything that varies is derived from the request's body."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

EPOCH = 1_760_000_000
_SPAN_SECONDS = 10_000_000
_NOT_CONTENT = ("stream", "stream_options")


class Seed:
    """Derive ids, times and numbers from a digest, by name; equal bodies derive the same."""

    def __init__(self, data: bytes) -> None:
        self.hex = hashlib.blake2b(data, digest_size=16).hexdigest()

    @classmethod
    def of_body(cls, body: dict[str, Any], files: Iterable[bytes] = ()) -> Seed:
        """Return the seed of a body; streamed and buffered forms of one request share it."""
        content = {name: value for name, value in body.items() if name not in _NOT_CONTENT}
        sums = [hashlib.blake2b(data, digest_size=16).digest() for data in files]
        return cls(b"".join((msgspec.json.encode(content, order="deterministic"), *sums)))

    @property
    def created(self) -> int:
        """Return a believable Unix time, in seconds."""
        return EPOCH + int(self.hex[:8], 16) % _SPAN_SECONDS

    def make_id(self, prefix: str, *parts: object) -> str:
        """Return an id such as `chatcmpl-…`; `parts` tell apart the ids of one answer."""
        return prefix + (self.draw(*parts).hex if parts else self.hex)

    def draw(self, *parts: object) -> Seed:
        """Return an independent seed, named by `parts`."""
        return Seed(f"{self.hex}/{'/'.join(map(str, parts))}".encode())

    def number(self, below: int) -> int:
        """Return an integer from 0 up to, not including, `below`."""
        return int(self.hex[8:24], 16) % below

    def stretch(self, size_bytes: int) -> bytes:
        return hashlib.shake_256(self.hex.encode()).digest(size_bytes)
