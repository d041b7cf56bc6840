"""Rules in the expression mode compute, and cannot do anything else."""

from __future__ import annotations

import pytest

from headgate.resources.model import evaluation
from headgate.resources.model.conditions import choose
from headgate.resources.model.explanation import explain
from headgate.resources.model.expressions import (
    LOOP_WEIGHT,
    OPEN_INNER_LOOP_WEIGHT,
    OPEN_LOOP_WEIGHT,
    OUTER_LOOK_WEIGHT,
    Expression,
)
from headgate.resources.model.live import NoLiveValues
from headgate.resources.model.paths import InvalidRoutingError
from headgate.resources.model.request_view import RESPONSES
from tests.unit.resources.routing_rules import compile_rules, expression_rule, holds, view


@pytest.mark.parametrize(
    "expression",
    [
        'request.model == "support" && tokens.input > 100',
        "request.tools.exists(t, t.name == 'weather')",
        "request.messages.exists(m, m.role == 'user' && m.content.contains('urgent'))",
        "size(request.messages) == 3 && request.messages[0].role != 'user'",
        "has(request.reasoning) && request.reasoning.effort in ['high', 'medium']",
        "!has(request.temperature) || request.temperature < 0.5",
        "metadata['team'].startsWith('gro') && metadata.team.matches('^g.*h$')",
        "errorRate(5) < 10.0 && errorRate() == 0.0",
        "capacityUsage('hour').totalTokens + tokens.input > 100",
        "request.nativeBody.reasoning_effort == 'high' ? true : false",
        "<%= request.format === 'chat-completions' && request.toolsCount > 0 %>",
        "request.lastMessage.content.includes('urgent') // the word of a customer",
    ],
)
def test_expressions_see_the_variables(expression: str) -> None:
    assert holds(expression)


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("request.temperature > 0.5", "there is no field 'temperature'"),
        ("request.model > 3", "No such overload"),
        ("request.model", "the expression gives 'support', and no boolean"),
        ("errorRate(5, 'none') > 1.0", "statusCode is a whole number, not 'none'"),
        ("capacityUsage('year').totalTokens > 1", "the period is one of"),
        ("capacityUsage().tokensUsagePercent > 80.0", ""),
        ("request.model.matches('(')", "The pattern '(' is no regular expression"),
        ("request.model.matches(3)", "`matches` takes a text and a pattern"),
    ],
)
def test_what_cannot_be_evaluated_is_false_and_told(
    expression: str, error: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert not holds(expression)
    # The evaluator would log the error of a function that an expression calls.
    assert capfd.readouterr() == ("", "")
    routing = compile_rules(expression_rule(expression))
    told = explain(routing, view(), NoLiveValues(), lambda _index: 0.0).rules[0]
    assert not told.matched
    assert told.error is not None
    assert error in told.error


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("request.model ==", "cannot be read"),
        ("", "is empty"),
        ("'open", "has no end"),
        ("model == 'x'", "no variable `model`"),
        ("request.tools.exists(t, u.name == 'x')", "no variable `u`"),
        ("system('ls')", "the function `system`"),
        ("request.model.lowerAscii() == 'x'", "the function `lowerAscii`"),
        ("(" * 400 + "true" + ")" * 400, "cannot be read"),
    ],
)
def test_an_expression_that_cannot_work_is_refused(expression: str, message: str) -> None:
    with pytest.raises(InvalidRoutingError, match=r"routing\.conditions\[0\]\.expression") as found:
        compile_rules(expression_rule(expression))
    assert message in str(found.value)


@pytest.mark.parametrize(
    ("expression", "weight"),
    [
        ("request.model == 'a'", 1),
        ("request.tools.exists(t, t.name == 'exists(x, y)')", LOOP_WEIGHT),
        ("request.tools.exists(t, t.name in ['a', 'b'])", 2 * LOOP_WEIGHT),
        ("request.tools.all(t, t.parts.exists(p, p.name == 'x'))", 2 * LOOP_WEIGHT),
        ("request.tools.all(t, t.parts.exists(p, p.name == t.name))", OUTER_LOOK_WEIGHT),
        ("request.tools.exists(t, t.name == request.model)", LOOP_WEIGHT),
        ("request.tools.exists(t, t.name == request.tool_choice)", OPEN_LOOP_WEIGHT),
        ("request.tools.exists(t, errorRate(5) > 1.0)", OPEN_LOOP_WEIGHT),
        ("request.tools.exists(t, request.input.exists(i, i == t))", OPEN_INNER_LOOP_WEIGHT),
    ],
)
def test_loops_weigh_by_what_they_look_at(expression: str, weight: int) -> None:
    assert Expression(expression).used.weight == weight


TEN = "[0,1,2,3,4,5,6,7,8,9]"


@pytest.mark.parametrize(
    "expression",
    [
        f"{TEN}.exists(a, {TEN}.exists(b, {TEN}.exists(c, c > 9)))",
        f"{TEN}.map(a, {TEN}.map(b, b)) == []",
        "['x']" + ".map(a, a + a)" * 99 + " == []",
        "['x']" + ".map(a, [a, a])" * 99 + " == []",
        "['x']" + ".map(a, {'b': a, 'c': a})" * 60 + " == []",
        "[0" + ",0" * 400 + "].exists(a, [0" + ",0" * 400 + "].exists(b, b > 9))",
        # In a raw text, a backslash is a sign like others: what follows the quote is no text.
        r"""r"\" == 'x' || """ + f"{TEN}.map(a, {TEN}.map(b, b)) == [] || '' == " + '""',
    ],
)
def test_loops_that_would_never_end_are_refused(expression: str) -> None:
    with pytest.raises(InvalidRoutingError):
        Expression(expression)


def test_rules_of_one_call_stop_looping_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "SECONDS_MAX", -1)
    loop = "request.input.exists(a, a == 'x')"
    routing = compile_rules(expression_rule(loop), expression_rule("size(request.input) > 0"))
    small = view({"model": "m", "input": ["x"]}, surface=RESPONSES)
    told = explain(routing, small, NoLiveValues(), lambda _index: 0.0)
    assert "the rules of this call took more than" in str(told.rules[0].error)
    assert choose(routing, small, NoLiveValues(), lambda _index: 0.0).index == 1


def test_a_request_that_is_too_large_for_a_loop_is_told() -> None:
    crossed = "request.input.exists(a, request.input.exists(b, a == b))"
    large = view({"model": "m", "input": ["x" * 10] * 2_000}, surface=RESPONSES)
    routing = compile_rules(expression_rule(crossed), expression_rule("size(request.input) > 9"))
    told = explain(routing, large, NoLiveValues(), lambda _index: 0.0)
    assert told.rules[0].error is not None
    assert "too large for this expression" in told.rules[0].error
    assert told.decision.index == 1
    small = view({"model": "m", "input": ["x"]}, surface=RESPONSES)
    assert choose(routing, small, NoLiveValues(), lambda _index: 0.0).index == 0


def test_only_the_fields_of_an_expression_are_read() -> None:
    used = Expression("request.toolsCount > 1 || request['input'] == 'x' && tokens.input > 1").used
    assert used.fields == {"toolsCount", "input"}
    assert used.roots == {"request", "tokens"}
    assert Expression("request == request").used.fields is None


def test_a_request_cannot_make_many_patterns() -> None:
    words = [f"{number}+" for number in range(60)]
    seen = view({"model": "m", "input": words}, surface=RESPONSES)
    source = "request.input.all(word, !request.model.matches(word))"
    told = explain(compile_rules(expression_rule(source)), seen, NoLiveValues(), lambda _index: 0.0)
    assert told.rules[0].error == "the expression makes too many patterns of the request"
