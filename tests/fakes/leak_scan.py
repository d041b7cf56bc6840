"""Secrets that are planted to be looked for afterwards, in every form in which they could leak."""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

ALPHABET = string.ascii_letters + string.digits
SLICE = 8
SLICE_BASE64 = 9
"""Nine characters are twelve in base 64, whatever stood before them in what was encoded."""

ENCODINGS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "raw": (SLICE, lambda part: part),
    "hex": (SLICE, lambda part: part.hex().encode()),
    "HEX": (SLICE, lambda part: part.hex().upper().encode()),
    "url": (SLICE, lambda part: b"".join(b"%%%02x" % byte for byte in part)),
    "URL": (SLICE, lambda part: b"".join(b"%%%02X" % byte for byte in part)),
    "json": (SLICE, lambda part: b"".join(b"\\u%04x" % byte for byte in part)),
    "utf-16-le": (SLICE, lambda part: part.decode("latin-1").encode("utf-16-le")),
    "utf-16-be": (SLICE, lambda part: part.decode("latin-1").encode("utf-16-be")),
    "base64": (SLICE_BASE64, base64.standard_b64encode),
    "base64url": (SLICE_BASE64, base64.urlsafe_b64encode),
}


@dataclass(frozen=True)
class PlantedSecret:
    """Hold a planted secret: its kind, and bytes of which no eight may be seen anywhere."""

    kind: str
    forms: tuple[bytes, ...]

    def needles(self) -> Iterable[tuple[str, bytes]]:
        """Return every slice of eight bytes in every encoding, with the name of the encoding."""
        for form in self.forms:
            for name, (length, encode) in ENCODINGS.items():
                for start in range(len(form) - length + 1):
                    yield name, encode(form[start : start + length])


def draw(length: int = 40) -> str:
    """Return the random part of a secret, which follows its public prefix."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def scan(sinks: Mapping[str, bytes], canaries: Iterable[PlantedSecret]) -> list[str]:
    """Return which secret was seen where, one sentence for each pair."""
    wanted: dict[int, dict[bytes, str]] = {}
    for canary in canaries:
        for encoding, needle in canary.needles():
            wanted.setdefault(len(needle), {})[needle] = f"{canary.kind} ({encoding})"
    found: dict[str, None] = {}
    for place, text in sinks.items():
        for length, needles in wanted.items():
            for start in range(len(text) - length + 1):
                if text[start : start + length] in needles:
                    found[f"{needles[text[start : start + length]]} in {place}"] = None
    return list(found)
