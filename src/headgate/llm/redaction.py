"""Remove a provider's key from what a caller gets, wherever the provider repeats it.

A provider that means to leak its key can encode it in any number of ways. This removes accidents:
the key as it was sent, or as JSON, a URL or base64 spell it.

Self-hosted servers accept words as keys (`lm-studio`, `password`). Removing these would damage
responses that mention them and protect nothing, so they are only removed from what is recorded.
"""

from __future__ import annotations

import base64
import functools
import math
import re
import urllib.parse

REMOVED = b"[removed]"
SECRET_BYTES_MIN = 20
"""A shorter key may be a word, and would be removed from ordinary text."""
RECORDED_BYTES_MIN = 8
"""`SECRET_BYTES_MIN` for records and logs, where a lost word is better than a leaked key."""
ENTROPY_BITS_MIN = 2.5
"""Shannon entropy of each byte. Random digits have 3, random hexadecimal digits 3.6."""
PROBE_BYTES = 12
NEVER_FOUND = b"\0 no secret \0"
"""The needle where there is no secret to look for."""

_WORD = rb"(?:[A-Z]?[a-z]{1,15}|[A-Z]{1,15})"
_WORDS = re.compile(rb"%b(?:[-_./:]{1,2}%b)*" % (_WORD, _WORD))
"""Words joined like names; hardly one random key in a million matches."""
_ESCAPES = {b'"': b'\\"', b"\\": b"\\\\"}
_MORE_ESCAPES = {b"<": b"\\u003c", b">": b"\\u003e", b"&": b"\\u0026", b"'": b"\\u0027"}


def redact(data: bytes, secret: bytes) -> bytes:
    """Return a whole body or head without the secret."""
    for probe, form in find_probes(secret):
        if probe in data:
            data = data.replace(form, REMOVED)
    return data


def redact_text(text: str, secret: bytes) -> str:
    """Return a text for records and logs without the key, also where the key is only a word."""
    for form in _spell_in_text(secret):
        if form in text:
            text = text.replace(form, REMOVED.decode())
    return text


@functools.lru_cache(maxsize=1024)
def is_secret(secret: bytes) -> bool:
    """Return whether a key is long and random enough that only the key itself can look like it."""
    if len(secret) < SECRET_BYTES_MIN or _WORDS.fullmatch(secret):
        return False
    shares = [secret.count(byte) / len(secret) for byte in set(secret)]
    return -sum(share * math.log2(share) for share in shares) >= ENTROPY_BITS_MIN


def redact_error(data: bytes, secret: bytes) -> bytes:
    """Redact an error body, where keys are repeated most often: as `redact`, and base64, too."""
    data = redact(data, secret)
    if is_secret(secret):
        for form in _encode_base64(secret):
            data = data.replace(form, REMOVED)
    return data


@functools.lru_cache(maxsize=1024)
def list_spellings(secret: bytes) -> tuple[bytes, ...]:
    """Return how a secret may be spelled; most have one spelling, words none."""
    return _spell(secret) if is_secret(secret) else ()


@functools.lru_cache(maxsize=1024)
def _spell(secret: bytes) -> tuple[bytes, ...]:
    escaped = _replace(secret, _ESCAPES)
    return tuple(
        dict.fromkeys(
            (
                secret,
                escaped,
                escaped.replace(b"/", b"\\/"),
                _replace(escaped, _MORE_ESCAPES),
                urllib.parse.quote_from_bytes(secret, safe="").encode(),
            )
        )
    )


@functools.lru_cache(maxsize=1024)
def _spell_in_text(secret: bytes) -> tuple[str, ...]:
    if len(secret) < RECORDED_BYTES_MIN:
        return ()
    return tuple(form.decode("utf-8", "surrogateescape") for form in _spell(secret))


@functools.lru_cache(maxsize=1024)
def find_probes(secret: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return each spelling with its last bytes, which are searched for first.

    A short needle is found several times faster than a long one, and no other text has the end of a
    key.
    """
    return tuple((form[-PROBE_BYTES:], form) for form in list_spellings(secret))


class StreamRedactor:
    """Remove the secret from a stream, however it is cut into chunks; its length stays the same.

    Only an end that may begin the secret is held back for the bytes after it. A chunk without
    `needle` that ends in a blank or a line break need not be fed: no secret contains one.
    """

    __slots__ = ("_forms", "_held", "_needle", "needle")

    def __init__(self, secret: bytes) -> None:
        probes = find_probes(secret)
        self._forms = list_spellings(secret)
        self._needle = probes[0][0] if len(probes) == 1 else b"" if probes else NEVER_FOUND
        self._held = b""
        self.needle = self._needle

    def feed(self, chunk: bytes) -> bytes:
        data = self._held + chunk
        kept = 0
        for form in self._forms:
            if form in data:
                data = data.replace(form, mask(form))
        # Replaced first: what remains at the end can only be the beginning of another occurrence.
        for form in self._forms:
            kept = max(kept, count_partial_match(data, form))
        self._held = data[len(data) - kept :]
        self.needle = b"" if kept else self._needle
        return data[: len(data) - kept]

    def close(self) -> bytes:
        """Return what was held back: at the end of the stream it is no secret."""
        held, self._held = self._held, b""
        return held


def mask(form: bytes) -> bytes:
    """Return the replacement of a secret where the length may not change."""
    return REMOVED.ljust(len(form), b"*")[: len(form)]


def count_partial_match(data: bytes, form: bytes) -> int:
    """Return the length of the longest end of the data that begins the spelling."""
    start = max(0, len(data) - len(form) + 1)
    while (start := data.find(form[:1], start)) >= 0:
        if form.startswith(data[start:]):
            return len(data) - start
        start += 1
    return 0


def _replace(text: bytes, table: dict[bytes, bytes]) -> bytes:
    return b"".join(table.get(bytes((each,)), bytes((each,))) for each in text)


@functools.lru_cache(maxsize=1024)
def _encode_base64(secret: bytes) -> tuple[bytes, ...]:
    """Return the middle of the secret's base64, for each of its three alignments."""
    # The characters at both ends depend on neighbouring bytes too, so they are left out.
    forms: list[bytes] = []
    for before in range(3):
        whole = base64.b64encode(bytes(before) + secret).rstrip(b"=")
        middle = whole[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        forms += [middle, middle.replace(b"+", b"-").replace(b"/", b"_")]
    return tuple(dict.fromkeys(forms))
