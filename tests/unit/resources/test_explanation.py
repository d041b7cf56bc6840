"""An explanation tells which rule decides and why, and decides as the call does."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.resources.model.conditions import choose
from headgate.resources.model.explanation import explain
from headgate.resources.model.live import NoLiveValues
from headgate.resources.model.patterns import Pattern, SlowPatternError
from headgate.resources.model.request_view import RESPONSES
from headgate.resources.model.routing_config import Comparator
from tests.unit.resources.routing_rules import (
    compile_rules,
    condition,
    expression_rule,
    group,
    rule,
    view,
)


def test_an_explanation_tells_values_errors_and_why_a_rule_decides() -> None:
    routing = compile_rules(
        rule(condition("request.model", "EXISTS"), enabled=False),
        rule(condition("request.model", "GREATER_THAN", "3", "number"), description="Broken"),
        rule(
            condition("request.toolsCount", "EQUAL", "1", "number"),
            then={"model": "some", "traffic": 10},
        ),
        rule(group(condition("request.toolsCount", "LESS_THAN", "5", "number")), model="taken"),
        expression_rule("request.nothing == 1", model="later"),
    )
    told = explain(routing, view(), NoLiveValues(), lambda _index: 50.0)
    assert [each.reason for each in told.rules] == [
        "It is switched off.",
        "It does not match.",
        "It matches, but the call is not in its 10 % of the traffic.",
        "It is the first rule that matches and takes the call.",
        "It does not match.",
    ]
    assert told.decision.index == 3
    assert [each.fires for each in told.rules].index(True) == 3
    broken, shared, nested = (told.rules[index].conditions[0] for index in (1, 2, 3))
    assert (broken.actual, broken.error) == ("'support'", "'support' is no number")
    assert (shared.actual, shared.value, shared.matched) == ("1", "1", True)
    assert told.rules[2].drawn == 50.0
    assert told.rules[2].traffic == 10
    assert nested.type == "group"
    assert nested.conditions[0].expression == "request.toolsCount"
    assert told.rules[4].error == "there is no field 'nothing'"


def test_an_expression_is_explained_by_the_values_that_it_looks_at() -> None:
    source = "errorRate(5) > 40.0 || request.toolsCount > 3 || metadata['tier'] == 'gold'"
    routing = compile_rules(expression_rule(source), expression_rule("tokens.input > 1"))
    first, second = explain(routing, view(), NoLiveValues(), lambda _index: 0.0).rules
    assert [(each.expression, each.actual) for each in first.conditions] == [
        ("request.toolsCount", "1"),
        ("metadata", '{"team":"growth","tier":"free"}'),
        ("errorRate(5)", "0"),
    ]
    assert [each.expression for each in second.conditions] == ["tokens"]


COMPARISONS = st.builds(
    condition,
    st.sampled_from(["request.model", "request.toolsCount", "request.x", "tokens.input"]),
    st.sampled_from([each.value for each in Comparator]),
    st.sampled_from(["support", "1", "", "true"]),
)


def make_group(members: list[Any], operator: str, enabled: bool) -> Any:
    return group(*members, operator=operator, enabled=enabled)


GROUPS = st.recursive(
    COMPARISONS,
    lambda inner: st.builds(
        make_group,
        st.lists(inner, max_size=3),
        st.sampled_from(["AND", "OR"]),
        st.booleans(),
    ),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.lists(st.lists(GROUPS, max_size=3), max_size=4), st.floats(0, 99.9))
def test_an_explanation_makes_the_same_decision(rules: list[list[Any]], drawn: float) -> None:
    routing = compile_rules(*(rule(*each, then={"model": "m", "traffic": 50}) for each in rules))
    decision = choose(routing, view(), NoLiveValues(), lambda _index: drawn)
    told = explain(routing, view(), NoLiveValues(), lambda _index: drawn)
    assert told.decision == decision
    firing = [each.index for each in told.rules if each.fires]
    assert firing == ([decision.index] if decision.index >= 0 else [])
    for each in told.rules:
        taken = each.matched and (each.drawn is None or each.drawn < (each.traffic or 0))
        assert taken is (each.index == decision.index) or each.index > decision.index >= 0


def test_a_slow_pattern_is_stopped_and_told() -> None:
    slow = condition("request.input", "PATTERN", "(a|aa)+$")
    seen = view({"model": "m", "input": "a" * 80 + "!"}, surface=RESPONSES)
    routing = compile_rules(rule(slow), rule(slow), rule(slow), rule(slow))
    told = explain(routing, seen, NoLiveValues(), lambda _index: 0.0)
    assert told.decision.index == -1
    errors = [each.conditions[0].error or "" for each in told.rules]
    assert "stopped after 5 ms" in errors[0]
    assert "stopped after 5 ms" in errors[1]
    assert errors[2] == errors[3] == "earlier patterns of this call took too long"


def test_a_rule_that_blocks_refuses_what_it_cannot_look_at_in_time() -> None:
    slow = condition("request.input", "PATTERN", "(a|aa)+$")
    seen = view({"model": "m", "input": "a" * 80 + "!"}, surface=RESPONSES)
    costly = expression_rule("request.input.matches('(a|aa)+$')", action="BLOCK")
    for blocking in (rule(slow, action="BLOCK"), costly, rule(group(slow), action="BLOCK")):
        for before in ((), (rule(slow), rule(slow))):
            routing = compile_rules(*before, blocking, rule(condition("request.model", "EXISTS")))
            told = explain(routing, seen, NoLiveValues(), lambda _index: 0.0)
            assert (told.decision.index, told.decision.is_blocked) == (len(before), True)
            assert told.decision.is_cut
            assert told.rules[len(before)].reason == (
                "It blocks, and could not be evaluated within its limits."
            )


def test_a_rule_that_blocks_passes_what_it_can_look_at() -> None:
    slow = condition("request.input", "PATTERN", "(a|aa)+$")
    wrong = condition("request.input", "GREATER_THAN", "5", "number")
    seen = view({"model": "m", "input": "a" * 80 + "!"}, surface=RESPONSES)
    for harmless in (wrong, condition("request.input", "EQUAL", "b")):
        routing = compile_rules(rule(slow), rule(harmless, action="BLOCK"))
        assert choose(routing, seen, NoLiveValues(), lambda _index: 0.0).index == -1


@pytest.mark.parametrize(
    "pattern",
    ["(a|aa)+$", "a?" * 40 + "a" * 40, "(a*)*b", "a*a*a*a*a*a*b", "(?=(a+))a*b+", r"(a+)\1+b"],
)
def test_no_pattern_takes_long(pattern: str) -> None:
    began = time.thread_time()
    for text in ("a" * 30 + "!", "a" * 60, "a" * 3_000):
        with contextlib.suppress(SlowPatternError):
            Pattern(pattern).is_in(text)
    assert time.thread_time() - began < 0.5
