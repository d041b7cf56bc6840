"""Explain a routing decision: which rule decides and why, with the values of each condition."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from headgate.resources.model.comparators import describe
from headgate.resources.model.conditions import (
    CompiledCondition,
    CompiledExpression,
    CompiledGroup,
    CompiledRouting,
    Draw,
    RoutingDecision,
    RoutingRule,
    choose,
)
from headgate.resources.model.evaluation import EVALUATION_ERRORS, Evaluation
from headgate.resources.model.live import LiveValues
from headgate.resources.model.paths import MISSING
from headgate.resources.model.request_view import RequestView
from headgate.resources.model.routing_config import RoutingGroup


class ConditionResult(msgspec.Struct, frozen=True, kw_only=True):
    """Tell what became of a condition or of a nested group: the value that was found, and what it
    was compared with."""

    type: str
    matched: bool = False
    id: str = ""
    label: str = ""
    expression: str = ""
    comparator: str = ""
    value: str = ""
    actual: str | None = None
    error: str | None = None
    operator: str = ""
    enabled: bool = True
    conditions: tuple[ConditionResult, ...] = ()


class RuleResult(msgspec.Struct, frozen=True, kw_only=True):
    """Tell what became of a rule, and why it decides or does not."""

    index: int
    fires: bool
    matched: bool
    enabled: bool
    action: str
    mode: str
    reason: str
    id: str = ""
    description: str = ""
    operator: str = ""
    expression: str = ""
    traffic: float | None = None
    drawn: float | None = None
    error: str | None = None
    conditions: tuple[ConditionResult, ...] = ()


class RoutingExplanation(msgspec.Struct, frozen=True):
    decision: RoutingDecision
    rules: tuple[RuleResult, ...]


def explain(
    routing: CompiledRouting, view: RequestView, live: LiveValues, draw: Draw
) -> RoutingExplanation:
    """Return the decision that `choose` makes, with all rules and what their conditions gave."""
    drawn: dict[int, float] = {}

    def draw_once(index: int) -> float:
        if index not in drawn:
            drawn[index] = draw(index)
        return drawn[index]

    decision = choose(routing, view, live, draw_once)
    evaluation = Evaluation(routing.used, view, live)
    compiled = {rule.index: rule for rule in routing.rules}
    rules = [
        _explain_rule(index, group, compiled.get(index), evaluation, decision, draw_once)
        for index, group in enumerate(routing.config.conditions)
    ]
    return RoutingExplanation(decision, tuple(rules))


def _explain_rule(
    index: int,
    group: RoutingGroup,
    rule: RoutingRule | None,
    evaluation: Evaluation,
    decision: RoutingDecision,
    draw: Draw,
) -> RuleResult:
    found = None if rule is None else explain_condition(rule.condition, evaluation)
    matched = found is not None and found.matched
    traffic = None if rule is None else rule.traffic
    return RuleResult(
        index=index,
        fires=index == decision.index,
        matched=matched,
        enabled=group.enabled,
        action=group.action.value,
        mode=group.mode.value,
        reason=_give_reason(index, decision, traffic, enabled=group.enabled, matched=matched),
        id=group.id,
        description=group.description,
        operator=group.operator.value,
        expression=group.expression,
        traffic=traffic,
        drawn=draw(index) if matched and traffic is not None else None,
        error=None if found is None else found.error,
        conditions=() if found is None else found.conditions,
    )


def _give_reason(
    index: int, decision: RoutingDecision, traffic: float | None, *, enabled: bool, matched: bool
) -> str:
    if not enabled:
        return "It is switched off."
    if index == decision.index and decision.is_cut:
        return "It blocks, and could not be evaluated within its limits."
    if not matched:
        return "It does not match."
    if index == decision.index:
        return "It is the first rule that matches and takes the call."
    if 0 <= decision.index < index:
        return "It matches, but an earlier rule decides."
    return f"It matches, but the call is not in its {traffic or 0:g} % of the traffic."


def explain_condition(
    member: CompiledCondition | CompiledGroup | CompiledExpression, evaluation: Evaluation
) -> ConditionResult:
    if isinstance(member, CompiledCondition):
        return _explain_comparison(member, evaluation)
    if isinstance(member, CompiledExpression):
        matched, error = False, None
        try:
            matched = member.decide(evaluation)
        except EVALUATION_ERRORS as cause:
            error = str(cause)
        values = tuple(_show_values(member, evaluation))
        return ConditionResult(type="expression", matched=matched, error=error, conditions=values)
    results = tuple(explain_condition(each, evaluation) for each in member.members)
    matches = [result.matched for result in results]
    return ConditionResult(
        type="group",
        matched=all(matches) if member.wants_all else any(matches),
        id=member.config.id,
        label=member.config.description,
        operator=member.config.operator.value,
        conditions=results,
    )


def _show_values(member: CompiledExpression, evaluation: Evaluation) -> Iterator[ConditionResult]:
    """Yield the variables that an expression looks at, with their values."""
    used = member.expression.used
    paths = [("request", name) for name in sorted(used.fields or ())]
    paths += [(root,) for root in sorted(used.roots) if root != "request"]
    for path in paths:
        value = evaluation.view.read(path)
        actual = None if value is MISSING else describe(value)
        yield ConditionResult(type="variable", expression=".".join(path), actual=actual)
    for call, value in evaluation.list_asked():
        if call.partition("(")[0] in member.expression.source:
            yield ConditionResult(type="variable", expression=call, actual=describe(value))


def _explain_comparison(member: CompiledCondition, evaluation: Evaluation) -> ConditionResult:
    config = member.config
    matched, actual, error = False, None, None
    try:
        left = member.read(evaluation)
        actual = None if left is MISSING else describe(left)
        matched = evaluation.search(member.test, left)
    except EVALUATION_ERRORS as cause:
        error = str(cause)
    return ConditionResult(
        type="condition",
        matched=matched,
        id=config.id,
        label=config.label,
        expression=config.expression,
        comparator=config.comparator.value,
        value=config.value.expression,
        actual=actual,
        error=error,
    )
