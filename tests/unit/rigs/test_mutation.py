"""Mutants are told apart by what they change, and counted."""

from __future__ import annotations

import pytest

from rigs.mutation.changes import compare
from rigs.mutation.groups import Equivalent, name_function, read_equivalents, read_groups
from rigs.mutation.score import add_up

MUTATED = '''
def x_double__mutmut_orig(number: int) -> int:
    """Twice."""
    assert number, "a number"
    return number * 2

def x_double__mutmut_1(number: int) -> int:
    """Twice."""
    assert number, "XXa numberXX"
    return number * 2

def x_double__mutmut_2(number: int) -> int:
    """Twice."""
    assert number, "a number"
    return number * 3
'''
WORDS = Equivalent("*", 'assert .*, ".*"', 'assert .*, "XX.*XX"', "words")


def test_change_of_a_mutant_is_the_line_that_differs() -> None:
    assert compare(MUTATED) == {
        "x_double__mutmut_1": ('assert number, "a number"', 'assert number, "XXa numberXX"'),
        "x_double__mutmut_2": ("return number * 2", "return number * 3"),
    }


@pytest.mark.parametrize(
    ("mutant", "function"),
    [
        ("headgate.a.x_double__mutmut_12", "headgate.a.double"),
        ("headgate.a.x__hidden__mutmut_1", "headgate.a._hidden"),
        ("headgate.a.xǁThingǁ__init____mutmut_3", "headgate.a.Thing.__init__"),
    ],
)
def test_mutant_is_named_after_its_function(mutant: str, function: str) -> None:
    assert name_function(mutant) == function


def test_score_leaves_out_what_is_equivalent_and_counts_what_no_test_ran() -> None:
    changes = {f"m.{name}": change for name, change in compare(MUTATED).items()}
    codes = {"m.x_double__mutmut_1": 0, "m.x_double__mutmut_2": 33, "m.a": 1, "m.b": 36, "m.c": -11}
    score = add_up({**codes, "m.d": None}, [WORDS], changes)
    assert (score.mutants, score.killed, score.timeouts, score.equivalent) == (6, 2, 1, 1)
    assert [survivor.mutant for survivor in score.survivors] == ["m.x_double__mutmut_2"]
    assert (score.unfinished, score.percent) == (1, 60.0)


def test_groups_and_equivalents_of_the_rig_are_valid() -> None:
    groups, percent_min = read_groups()
    assert percent_min == 85
    assert all(group.modules and group.tests for group in groups.values())
    assert all(len(each.reason) > 20 for each in read_equivalents())
