"""Find the first stop sequence in a text that comes piece by piece."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec


class Cut(msgspec.Struct, frozen=True):
    """Hold the text that may be sent now, and the stop sequence that ended it, None for none."""

    text: str
    sequence: str | None = None


class StopPattern(NamedTuple):
    """Hold what the search needs; `beginnings` are those of all sequences, without the whole."""

    pattern: re.Pattern[str] | None
    beginnings: frozenset[str]
    held_max: int


@functools.lru_cache(maxsize=16)
def compile_sequences(sequences: tuple[str, ...]) -> StopPattern:
    # The longest first, so that of two at one place the longer is found.
    ordered = sorted(sequences, key=len, reverse=True)
    return StopPattern(
        re.compile("|".join(map(re.escape, ordered))) if ordered else None,
        frozenset(each[:end] for each in ordered for end in range(1, len(each))),
        max((len(each) for each in ordered), default=1) - 1,
    )


class StopSequences:
    """Search a text for stop sequences. What could be the beginning of one is held back."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self._pattern, self._beginnings, self._held_max = compile_sequences(tuple(sequences))
        self._held = ""

    def feed(self, text: str) -> Cut:
        """Take the next piece of a text. After a cut nothing more may be fed."""
        if self._pattern is None:
            return Cut(text)
        text, self._held = self._held + text, ""
        found = self._pattern.search(text)
        if found is not None and not self._may_grow(text, found):
            return Cut(text[: found.start()], found.group())
        # A sequence that may still become a longer one is held with all that follows it.
        start = self._find_beginning(text) if found is None else found.start()
        text, self._held = text[:start], text[start:]
        return Cut(text)

    def finish(self) -> Cut:
        """End a text, and return what was held back."""
        text, self._held = self._held, ""
        found = None if self._pattern is None else self._pattern.search(text)
        return Cut(text) if found is None else Cut(text[: found.start()], found.group())

    def _may_grow(self, text: str, found: re.Match[str]) -> bool:
        """Return whether the text ends within a sequence that begins at the same place or before,
        and is longer."""
        return text[found.start() :] in self._beginnings

    def _find_beginning(self, text: str) -> int:
        """Return where the longest end of a text begins that a sequence begins with."""
        for start in range(max(0, len(text) - self._held_max), len(text)):
            if text[start:] in self._beginnings:
                return start
        return len(text)
