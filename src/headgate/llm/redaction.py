"""Keeps a provider's key out of what its caller hears, wherever the provider repeats it."""

from __future__ import annotations

REMOVED = b"[removed]"
SECRET_BYTES_MIN = 16
"""A shorter one is no key but a word, given to a server that wants none: answers may have it."""
SECRET_IN_ERROR_BYTES_MIN = 8
"""Errors are where keys are repeated, and they are no answers."""


def redact(data: bytes, secret: bytes, bytes_min: int = SECRET_BYTES_MIN) -> bytes:
    """The whole of a body, or of a head, without the secret if it has that many bytes."""
    if len(secret) < bytes_min or secret not in data:
        return data
    return data.replace(secret, REMOVED)


def watch(secret: bytes) -> StreamRedactor | None:
    """A redactor for one stream; None where there is nothing to keep."""
    return StreamRedactor(secret) if len(secret) >= SECRET_BYTES_MIN else None


class StreamRedactor:
    """Takes the secret out of a stream, however it is cut; the length stays as it was announced.

    Only an end that may be the beginning of the secret waits for the bytes after it.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._mask = REMOVED.ljust(len(secret), b"*")[: len(secret)]
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that may go on now."""
        # Events end with a line, and no secret has one: that is nearly every chunk.
        if chunk[-1:] == b"\n" and not self._held and self._secret not in chunk:
            return chunk
        data = (self._held + chunk).replace(self._secret, self._mask)
        kept = self._count_begun(data)
        self._held = data[len(data) - kept :]
        return data[: len(data) - kept]

    def close(self) -> bytes:
        """The stream has ended: what waited was no secret."""
        held, self._held = self._held, b""
        return held

    def _count_begun(self, data: bytes) -> int:
        """How many bytes at the end are the beginning of the secret, the most that are."""
        start = max(0, len(data) - len(self._secret) + 1)
        while (start := data.find(self._secret[:1], start)) >= 0:
            if self._secret.startswith(data[start:]):
                return len(data) - start
            start += 1
        return 0
