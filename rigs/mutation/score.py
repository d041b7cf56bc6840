"""The score of a group: what became of its mutants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rigs.mutation.groups import Equivalent, name_function

KILLED_CODE = 1
TIMEOUT_CODES = frozenset((36, 24, -24, 152, 255))
SURVIVED_CODE = 0
UNTESTED_CODES = frozenset((5, 33))


@dataclass(frozen=True)
class Survivor:
    """Describe a change that no test noticed."""

    mutant: str
    removed: str
    added: str


@dataclass(frozen=True)
class Score:
    """Count the mutants of a group; those known to be equivalent count on neither side."""

    mutants: int
    killed: int
    timeouts: int
    equivalent: int
    unfinished: int
    survivors: Sequence[Survivor]

    @property
    def percent(self) -> float:
        """Return the share that was killed (by a failing test, a crash, or the clock)."""
        counted = self.mutants - self.equivalent
        return 100 * (self.killed + self.timeouts) / counted if counted else 0.0


def add_up(
    codes: Mapping[str, int | None],
    equivalents: Sequence[Equivalent],
    changes: Mapping[str, tuple[str, str]],
) -> Score:
    """Return the score from the exit code of the tests for each mutant.

    A mutant without a test counts as a survivor; `changes` are what each mutant removes and adds.
    """
    survivors: list[Survivor] = []
    known = 0
    for mutant, code in codes.items():
        if code != SURVIVED_CODE and code not in UNTESTED_CODES:
            continue
        removed, added = changes[mutant]
        function = name_function(mutant)
        if any(each.covers(function, removed, added) for each in equivalents):
            known += 1
        else:
            survivors.append(Survivor(mutant, removed, added))
    timeouts = sum(code in TIMEOUT_CODES for code in codes.values())
    unfinished = sum(code is None for code in codes.values())
    killed = len(codes) - timeouts - unfinished - known - len(survivors)
    return Score(len(codes), killed, timeouts, known, unfinished, survivors)
