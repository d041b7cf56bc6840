"""What takes the place of chance: everything that varies is derived from the request's body."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

EPOCH = 1_760_000_000
_SPAN_SECONDS = 10_000_000
_NOT_CONTENT = ("stream", "stream_options")


class Seed:
    """A digest from which ids, times and numbers are drawn by name; equal bodies draw equally."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.hex = hashlib.blake2b(data, digest_size=16).hexdigest()

    @classmethod
    def of_body(cls, body: dict[str, Any], files: Iterable[bytes] = ()) -> Seed:
        """The seed of a body. Streamed and buffered forms of one request share it."""
        content = {name: value for name, value in body.items() if name not in _NOT_CONTENT}
        sums = [hashlib.blake2b(data, digest_size=16).digest() for data in files]
        return cls(b"".join((msgspec.json.encode(content, order="deterministic"), *sums)))

    @property
    def created(self) -> int:
        """A believable Unix time, in seconds."""
        return EPOCH + int(self.hex[:8], 16) % _SPAN_SECONDS

    def make_id(self, prefix: str, *parts: object) -> str:
        """An id such as `chatcmpl-…`; `parts` tell apart the ids of one answer."""
        return prefix + (self.draw(*parts).hex if parts else self.hex)

    def draw(self, *parts: object) -> Seed:
        """An independent seed, named by `parts`."""
        return Seed(f"{self.hex}/{'/'.join(map(str, parts))}".encode())

    def number(self, below: int) -> int:
        """An integer from 0 up to, not including, `below`."""
        return int(self.hex[8:24], 16) % below

    def stretch(self, size_bytes: int) -> bytes:
        """That many bytes."""
        return hashlib.shake_256(self.hex.encode()).digest(size_bytes)
