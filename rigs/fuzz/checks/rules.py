"""What owners write into routing rules: paths, expressions and patterns."""

from __future__ import annotations

import contextlib

from headgate.resources.model.conditions import CompiledRouting, choose
from headgate.resources.model.evaluation import EVALUATION_ERRORS, Evaluation
from headgate.resources.model.expressions import Expression
from headgate.resources.model.live import NoLiveValues
from headgate.resources.model.paths import InvalidRoutingError
from headgate.resources.model.request_view import CHAT, RequestView
from headgate.resources.model.routing_config import (
    Comparator,
    ConditionValue,
    RoutedModel,
    RoutingCondition,
    RoutingConfig,
    RoutingGroup,
    ValueType,
)

BODY = b'{"model":"m","messages":[{"role":"user","content":"Hello"}],"tools":[{"type":"x"}]}'


def make_view() -> RequestView:
    return RequestView(BODY, surface=CHAT, model="m", metadata='{"team":"a"}')


def check_expression(data: bytes) -> None:
    """Check that an expression is refused, or gives a value or an error that is told."""
    source = data.decode("utf-8", "replace")
    with contextlib.suppress(InvalidRoutingError):
        expression = Expression(source)
        with contextlib.suppress(*EVALUATION_ERRORS):
            Evaluation(expression.used, make_view(), NoLiveValues()).evaluate(expression)


def check_condition(data: bytes) -> None:
    """Check that a condition is refused, or decides without an error."""
    selector, _, rest = data.partition(b"\0")
    first, _, second = rest.decode("utf-8", "replace").partition("\0")
    number = int.from_bytes(selector[:2] or b"\0")
    comparators, kinds = list(Comparator), list(ValueType)
    condition = RoutingCondition(
        expression=first or "request",
        comparator=comparators[number % len(comparators)],
        value=ConditionValue(kinds[number // 16 % len(kinds)], second),
    )
    group = RoutingGroup(conditions=(condition,), then=RoutedModel(model="m"))
    with contextlib.suppress(InvalidRoutingError):
        routing = CompiledRouting(RoutingConfig(conditions=(group,)))
        decision = choose(routing, make_view(), NoLiveValues(), lambda _index: 0.0)
        assert decision.index in (-1, 0)
