"""Collect what a conversion carries, approximates, loses and refuses.

Each pair of APIs has a table of rules. The table is the contract: the converters report a loss by
one of its rows, and the documentation is made from it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec


class Handling(enum.Enum):
    CARRIED = "carried"
    """It arrives with the same meaning."""
    APPLIED = "applied"
    """The gateway does it itself, since the provider's API has nothing like it."""
    APPROXIMATED = "approximated"
    """It arrives with nearly the same meaning. Reported as a loss."""
    LOST = "lost"
    """The provider's API has nothing like it. Reported as a loss."""
    REFUSED = "refused"
    """A call without it would be another one, so it is answered with 400."""
    IGNORED = "ignored"
    """It changes nothing in what is answered, such as hints for a cache. Not reported."""


class Rule(msgspec.Struct, frozen=True):
    """Say what becomes of a field, a block or a value of a request. `when` limits a loss."""

    handling: Handling
    target: str = ""
    when: str = ""


UNKNOWN = "unknown field"
"""The rule of what no converter knows. Each table has it."""
_INDEX = re.compile(r"\[(\d+)\]")
REPORTED = (Handling.APPROXIMATED, Handling.LOST)


class Losses:
    """Collect what one conversion could not carry, each place once, by the rules of its pair."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._rules = rules
        self._found: dict[str, str] = {}

    def add(self, rule: str, place: str) -> None:
        """Report a loss at a place of the request: `messages.0.content`, or `messages[0].content`
        as OpenAI's errors have it, which becomes the former."""
        handling = self._rules[rule].handling
        assert handling in REPORTED, f"{rule} is no loss"
        self._found.setdefault(_INDEX.sub(r".\1", place), handling.value)

    def add_rest(
        self, fields: Mapping[str, Any], known: Collection[str], place: str, rule: str = UNKNOWN
    ) -> None:
        """Report every field of an object that has a value, and that its converter does not know.
        `place` is that of the object, empty for the request itself."""
        for name, value in fields.items():
            if name not in known and value is not None:
                self.add(rule, f"{place}.{name}" if place else name)

    def extend(self, others: Losses) -> None:
        """Report the losses of a further conversion of the same call as well."""
        for place, handling in others:
            self._found.setdefault(place, handling)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield each place with the word of its handling."""
        return iter(self._found.items())

    def __len__(self) -> int:
        return len(self._found)
