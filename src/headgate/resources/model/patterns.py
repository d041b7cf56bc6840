"""Search texts by the regular expressions that owners write, in bounded time.

A regular expression can take longer than any call may last, both to compile and to search. So its
size is bounded with all repetitions written out, and a search ends after a few milliseconds.
"""

from __future__ import annotations

import re

import regex

from headgate.resources.model.paths import InvalidRoutingError

PATTERN_CHARACTERS_MAX = 1_000
SIZE_MAX = 20_000
"""The most signs of a pattern whose counted repetitions, such as `{3,20}`, are written out."""
RUN_MAX = 200
"""The most signs in a row that are neither repeated nor alternatives: the search for a fixed text
is prepared in a time that grows with the third power of its length."""
SEARCH_SECONDS_MAX = 0.005

STEPS_MAX = 100_000
"""A search that cannot take more steps, by a rough bound, is not watched by the clock."""

_PARTS = re.compile(
    r"(?P<open>\()|(?P<close>\))|\{(?P<least>\d*)(?:,(?P<most>\d*))?\}"
    r"|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<blank>\s)|(?P<sign>\\.|.)",
    re.DOTALL,
)
_RUN_ENDS = re.compile(r"(?<!\\)[|*+?.{]")
_UNSUPPORTED = re.compile(r"\(\?(?:#|[a-zA-Z]*x)")
"""Finds comments and the verbose mode, which hide what a repetition belongs to."""
_COMPLEX = re.compile(r"\)[*+{]|\(\?(?!:|i\))|\\[1-9gk]")
"""Finds repeated groups, assertions and back references, for which there is no bound here."""


class SlowPatternError(Exception):
    """A search took too long and was stopped.

    Write a simpler pattern: without a repetition inside of another one.
    """


class Pattern:
    """Search for one regular expression."""

    __slots__ = ("_degree", "_factor", "_search", "source")

    def __init__(self, source: str) -> None:
        """Compile a pattern. Raise `InvalidRoutingError` where it is none, or too costly."""
        self.source = source
        if len(source) > PATTERN_CHARACTERS_MAX:
            raise InvalidRoutingError(f"A pattern has at most {PATTERN_CHARACTERS_MAX} characters.")
        if _UNSUPPORTED.search(source):
            raise InvalidRoutingError("A pattern has no comments, and no verbose mode (`x`).")
        if max(map(len, _RUN_ENDS.split(source))) > RUN_MAX:
            message = f"A pattern has at most {RUN_MAX} plain characters in a row."
            raise InvalidRoutingError(message)
        if measure_pattern(source) > SIZE_MAX:
            raise InvalidRoutingError(
                f"With its repetitions written out, the pattern has more than {SIZE_MAX} signs: "
                f"{source[:64]!r}."
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
        branches = STEPS_MAX if is_complex else 2 ** min(options, 20)
        self._factor = branches * max(1, len(source) >> 4)

    def is_in(self, text: str) -> bool:
        """Return whether the pattern is found anywhere in a text. Raise `SlowPatternError`."""
        length = len(text)
        if length <= STEPS_MAX and length**self._degree * self._factor < STEPS_MAX:
            return self._search(text) is not None
        try:
            return self._search(text, timeout=SEARCH_SECONDS_MAX) is not None
        except TimeoutError:
            milliseconds = int(SEARCH_SECONDS_MAX * 1_000)
            raise SlowPatternError(
                f"the search was stopped after {milliseconds} ms: {self.source[:64]!r}"
            ) from None


def measure_pattern(source: str) -> int:
    """Return the signs of a pattern whose counted repetitions are written out."""
    sizes = [0]
    last = 0
    """The size of what a repetition would repeat."""
    for found in _PARTS.finditer(source):
        kind = found.lastgroup
        if kind == "open":
            sizes.append(0)
        elif kind == "close":
            last = max(1, sizes.pop()) if len(sizes) > 1 else 1
            sizes[-1] = min(sizes[-1] + last, SIZE_MAX + 1)
        elif kind in ("least", "most"):
            times = int((found["most"] or found["least"] or "1")[:9])
            repeated = min(last * max(1, times), SIZE_MAX + 1)
            sizes[-1] = min(sizes[-1] - last + repeated, SIZE_MAX + 1)
            last = repeated
        elif kind != "blank":
            # A sign such as `*` after a group belongs to it, and a further count repeats both.
            last = last if found["sign"] in ("*", "+", "?") and last else 1
            sizes[-1] = min(sizes[-1] + 1, SIZE_MAX + 1)
    return sum(sizes)
