"""Search texts by the regular expressions that owners write, in bounded time.

A regular expression can take longer than any call may last, both to compile and to search. So the
counts of its repetitions are bounded, and a search ends after a few milliseconds.
"""

from __future__ import annotations

import math
import re

import regex

from headgate.resources.model.paths import InvalidRoutingError

PATTERN_CHARACTERS_MAX = 1_000
REPETITIONS_MAX = 10_000
"""The most that the counts of all repetitions, such as `{3,20}`, come to."""
SEARCH_SECONDS_MAX = 0.005

STEPS_MAX = 100_000
"""A search that cannot take more steps, by a rough bound, is not watched by the clock."""

_COUNTS = re.compile(r"\{(\d*)(?:,(\d*))?\}")
_COMPLEX = re.compile(r"\)[*+{]|\(\?(?!:|i\))|\\[1-9gk]")
"""Finds repeated groups, assertions and back references, for which there is no bound here."""


def count_repetitions(source: str) -> int:
    """Return what the counts of a pattern come to: their product where groups are repeated, which
    may be nested, else their sum. Compiling takes the longer the more that is."""
    counts = [int(most or least or 1) for least, most in _COUNTS.findall(source)]
    return math.prod(counts) if "){" in source else sum(counts)


class SlowPatternError(Exception):
    """A search took too long and was stopped.

    Write a simpler pattern: without a repetition inside of another one.
    """


class Pattern:
    """Search for one regular expression."""

    __slots__ = ("_branches", "_degree", "_search", "source")

    def __init__(self, source: str) -> None:
        """Compile a pattern. Raise `InvalidRoutingError` where it is none, or too costly."""
        self.source = source
        if len(source) > PATTERN_CHARACTERS_MAX:
            raise InvalidRoutingError(f"A pattern has at most {PATTERN_CHARACTERS_MAX} characters.")
        if count_repetitions(source) > REPETITIONS_MAX:
            raise InvalidRoutingError(
                "The counts of the pattern's repetitions come to more than "
                f"{REPETITIONS_MAX}: {source[:64]!r}."
            )
        try:
            compiled = regex.compile(source, cache_pattern=False)
        except (regex.error, RecursionError, OverflowError, ValueError) as error:
            message = f"The pattern {source[:64]!r} is no regular expression: {error}."
            raise InvalidRoutingError(message) from None
        self._search = compiled.search
        is_complex = _COMPLEX.search(source) is not None
        # Each unbounded repetition may try each position, each option and alternative doubles.
        self._degree = 1 + sum(source.count(sign) for sign in "*+{")
        options = source.count("?") - source.count("(?") + source.count("|")
        self._branches = STEPS_MAX if is_complex else 2 ** min(options, 20)

    def is_in(self, text: str) -> bool:
        """Return whether the pattern is found anywhere in a text. Raise `SlowPatternError`."""
        if len(text) <= STEPS_MAX and len(text) ** self._degree * self._branches < STEPS_MAX:
            return self._search(text) is not None
        try:
            return self._search(text, timeout=SEARCH_SECONDS_MAX) is not None
        except TimeoutError:
            milliseconds = int(SEARCH_SECONDS_MAX * 1_000)
            raise SlowPatternError(
                f"the search was stopped after {milliseconds} ms: {self.source[:64]!r}"
            ) from None
