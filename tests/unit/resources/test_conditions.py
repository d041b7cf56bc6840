"""Routing rules decide by all comparators, value types, groups, shares of traffic and live
values."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from headgate.resources.model.conditions import choose, draw_sticky
from headgate.resources.model.explanation import explain
from headgate.resources.model.live import CapacityState, NoLiveValues
from headgate.resources.model.paths import InvalidRoutingError
from headgate.resources.model.request_view import RESPONSES
from headgate.resources.model.resource import ResourceConfig
from headgate.resources.model.routing_config import Comparator, ValueType
from headgate.resources.model.slot import ModelSlot
from headgate.resources.service import CompiledResource
from tests.unit.resources.routing_rules import (
    LiveTable,
    compile_rules,
    condition,
    decide,
    expression_rule,
    group,
    matches,
    rule,
    view,
)

LEFT: dict[str, Any] = {
    "text": "alpha,beta",
    "word": "alpha",
    "number": 12,
    "fraction": 1.5,
    "flag": True,
    "words": ["alpha", "beta"],
    "object": {"a": 1, "b": [2]},
    "objects": [{"a": 1, "b": 2}],
    "nothing": None,
}
TABLE = """
word     EQUAL        string                alpha            yes
word     EQUAL        string                beta             no
number   EQUAL        string                12               yes
flag     EQUAL        string                true             yes
number   EQUAL        number                12.0             yes
word     EQUAL        number                12               no
flag     EQUAL        boolean               TRUE             yes
flag     EQUAL        boolean               false            no
words    EQUAL        comma-delimited-list  alpha, beta      yes
words    EQUAL        comma-delimited-list  beta,alpha       no
object   EQUAL        json-object           {"b":[2],"a":1}  yes
object   EQUAL        json-object           {"a":true}       no
words    EQUAL        json-array            ["alpha","beta"] yes
absent   EQUAL        string                alpha            no
word     NOT_EQUAL    string                beta             yes
absent   NOT_EQUAL    string                beta             yes
number   NOT_EQUAL    number                12               no
word     NOT_EQUAL    number                12               no
flag     NOT_EQUAL    boolean               false            yes
words    NOT_EQUAL    comma-delimited-list  alpha            yes
object   NOT_EQUAL    json-object           {"a":1}          yes
words    NOT_EQUAL    json-array            ["alpha"]        yes
number   GREATER_THAN number                11.5             yes
number   GREATER_THAN number                12               no
word     GREATER_THAN string                abacus           yes
absent   GREATER_THAN number                0                no
number   GREATER_THAN boolean               true             no
number   GREATER_THAN comma-delimited-list  1,2              no
number   GREATER_THAN json-object           {}               no
number   GREATER_THAN json-array            [1]              no
number   GREATER_THAN_OR_EQUAL number       12               yes
fraction GREATER_THAN_OR_EQUAL number       1.6              no
word     GREATER_THAN_OR_EQUAL string       alpha            yes
fraction LESS_THAN    number                2                yes
number   LESS_THAN    number                12               no
word     LESS_THAN    string                beta             yes
number   LESS_THAN_OR_EQUAL number          12               yes
number   LESS_THAN_OR_EQUAL number          11               no
word     LESS_THAN_OR_EQUAL string          alpha            yes
text     CONTAINS     string                pha,be           yes
text     CONTAINS     string                gamma            no
number   CONTAINS     number                2                yes
flag     CONTAINS     boolean               true             yes
text     CONTAINS     comma-delimited-list  gamma,beta       yes
words    CONTAINS     string                beta             yes
words    CONTAINS     string                bet              no
words    CONTAINS     json-array            ["gamma","beta"] yes
object   CONTAINS     json-object           {"a":1}          yes
object   CONTAINS     json-object           {"a":2}          no
objects  CONTAINS     json-object           {"b":2}          yes
objects  CONTAINS     string                "b":2            yes
absent   CONTAINS     string                a                no
text     NOT_CONTAINS string                gamma            yes
absent   NOT_CONTAINS string                gamma            yes
text     NOT_CONTAINS comma-delimited-list  gamma,beta       no
number   NOT_CONTAINS number                3                yes
flag     NOT_CONTAINS boolean               false            yes
object   NOT_CONTAINS json-object           {"a":1}          no
words    NOT_CONTAINS json-array            ["alpha"]        no
text     STARTS_WITH  string                alpha            yes
text     STARTS_WITH  string                beta             no
number   STARTS_WITH  number                1                yes
flag     STARTS_WITH  boolean               true             yes
text     STARTS_WITH  comma-delimited-list  gamma,al         yes
object   STARTS_WITH  json-object           {"a":1}          no
text     STARTS_WITH  json-array            ["alpha"]        yes
text     ENDS_WITH    string                beta             yes
text     ENDS_WITH    string                alpha            no
number   ENDS_WITH    number                2                yes
flag     ENDS_WITH    boolean               true             yes
text     ENDS_WITH    comma-delimited-list  ta,x             yes
word     ENDS_WITH    json-object           {"a":1}          no
text     ENDS_WITH    json-array            ["eta"]          yes
text     PATTERN      string                ^alpha,.eta$     yes
text     PATTERN      string                ^beta            no
number   PATTERN      number                1                yes
flag     PATTERN      boolean               true             yes
text     PATTERN      comma-delimited-list  x+,be            yes
object   PATTERN      json-object           {"b":1}          no
text     PATTERN      json-array            ["^b","a$"]      yes
absent   PATTERN      string                .                no
word     IN           comma-delimited-list  beta, alpha      yes
word     IN           comma-delimited-list  beta             no
number   IN           json-array            [12,13]          yes
words    IN           json-array            ["x","beta"]     yes
object   IN           json-array            [{"a":1,"b":[2]}] yes
word     IN           string                alpha            yes
number   IN           number                12               yes
flag     IN           boolean               true             yes
object   IN           json-object           {"a":1,"b":[2]}  yes
absent   IN           comma-delimited-list  alpha            no
word     NOT_IN       comma-delimited-list  beta,gamma       yes
word     NOT_IN       string                alpha            no
number   NOT_IN       number                13               yes
flag     NOT_IN       boolean               false            yes
object   NOT_IN       json-object           {"a":1}          yes
number   NOT_IN       json-array            [12]             no
absent   NOT_IN       comma-delimited-list  alpha            yes
word     EXISTS       string                                 yes
flag     EXISTS       boolean               true             yes
number   EXISTS       number                1                yes
words    EXISTS       comma-delimited-list  a                yes
object   EXISTS       json-object           {}               yes
words    EXISTS       json-array            []               yes
nothing  EXISTS       string                x                no
absent   EXISTS       string                x                no
"""


def read_table() -> list[tuple[str, str, str, str, bool]]:
    rows: list[tuple[str, str, str, str, bool]] = []
    for line in TABLE.strip().splitlines():
        name, comparator, kind, rest = line.split(None, 3)
        value, _, expected = f" {rest}".rpartition(" ")
        rows.append((name, comparator, kind, value.strip(), expected == "yes"))
    return rows


def test_table_has_all_comparators_with_all_types() -> None:
    tested = {(comparator, kind) for _, comparator, kind, _, _ in read_table()}
    ordered = {
        (comparator.value, kind.value)
        for comparator in Comparator
        if comparator.value.startswith(("LESS", "GREATER"))
        and comparator is not Comparator.GREATER_THAN
        for kind in ValueType
        if kind not in (ValueType.NUMBER, ValueType.STRING)
    }
    wanted = {(comparator.value, kind.value) for comparator in Comparator for kind in ValueType}
    assert wanted - ordered - tested == set()


@pytest.mark.parametrize(("name", "comparator", "kind", "value", "expected"), read_table())
def test_comparators_compare_each_type(
    name: str, comparator: str, kind: str, value: str, expected: bool
) -> None:
    seen = view({"model": "m", **LEFT}, surface=RESPONSES)
    assert matches(condition(f"request.{name}", comparator, value, kind), seen=seen) is expected


@pytest.mark.parametrize(
    "comparator", [each.value for each in Comparator if each is not Comparator.EXISTS]
)
def test_nothing_compares_with_an_empty_value(comparator: str) -> None:
    assert not matches(condition("request.model", comparator, "  "))


def test_groups_nest_and_those_that_are_off_count_for_nothing() -> None:
    yes = condition("request.model", "EQUAL", "support")
    no = condition("request.model", "EQUAL", "other")
    assert matches(yes, group(no, yes, operator="OR"))
    assert not matches(yes, group(no, yes))
    assert matches(yes, group(no, enabled=False))
    assert matches(no, group(yes, group(no, yes, operator="OR")), operator="OR")
    assert matches()
    assert not matches(operator="OR")


def test_first_match_wins_and_a_rule_that_is_off_is_passed_over() -> None:
    yes = condition("request.model", "EXISTS")
    decision = decide(
        rule(yes, model="off", enabled=False),
        rule(condition("request.toolsCount", "GREATER_THAN", "1", "number"), model="tools"),
        rule(yes, model="first"),
        rule(yes, model="second"),
    )
    assert decision.model is not None
    assert (decision.index, decision.model.model) == (2, "first")


def test_a_block_decides_without_a_model() -> None:
    blocked = group(condition("request.model", "EXISTS"), action="BLOCK", description="No.")
    decision = decide(blocked)
    assert (decision.is_blocked, decision.description, decision.model) == (True, "No.", None)


def test_traffic_is_split_by_draws_and_the_rest_goes_to_the_next_rule() -> None:
    yes = condition("request.model", "EXISTS")
    routing = compile_rules(rule(yes, then={"model": "a", "traffic": 30}), rule(yes, model="b"))
    counts = Counter(
        decision.model.model
        for number in range(2_000)
        if (
            decision := choose(
                routing, view(), NoLiveValues(), draw_sticky("res_1", f"conversation {number}")
            )
        ).model
    )
    assert 540 <= counts["a"] <= 660
    assert counts.total() == 2_000
    for traffic, drawn, model in ((0, 0.0, "b"), (100, 99.999, "a"), (30, 30.0, "b")):
        chosen = decide(
            rule(yes, then={"model": "a", "traffic": traffic}), rule(yes, model="b"), drawn=drawn
        )
        assert chosen.model is not None
        assert chosen.model.model == model


def test_a_conversation_stays_with_its_model() -> None:
    draw, again = draw_sticky("res_1", "c1"), draw_sticky("res_1", "c1")
    assert [draw(index) for index in range(5)] == [again(index) for index in range(5)]
    assert draw(0) != draw(1)
    assert draw(0) != draw_sticky("res_2", "c1")(0)


def test_live_values_route_and_are_asked_once() -> None:
    live = LiveTable()
    live.errors[10, None, None, None] = 25.0
    live.errors[5, 429, "cred_2", "gpt"] = 50.0
    live.states["minute", None] = CapacityState(tokens_usage_percent=85.0, remaining_requests=3)
    rules = [
        rule(condition("errorRate()", "GREATER_THAN", "30", "number"), model="none"),
        rule(condition("errorRate(10)", "GREATER_THAN", "20", "number"), model="errors"),
        rule(
            condition("errorRate(5, 429, 'cred_2', \"gpt\")", "GREATER_THAN", "40", "number"),
            model="limits",
        ),
        rule(
            condition('capacityUsage("minute").tokensUsagePercent', "LESS_THAN", "90", "number"),
            condition(
                '<% return (await capacityUsage("minute"))?.remainingRequests %>',
                "LESS_THAN",
                "5",
                "number",
            ),
            model="full",
        ),
        expression_rule('capacityUsage("minute").tokensUsagePercent > 80.0', model="cel"),
    ]

    def chosen() -> str | None:
        found = choose(compile_rules(*rules), view(), live, lambda _index: 0.0).model
        return None if found is None else found.model

    assert chosen() == "errors"
    del live.errors[10, None, None, None]
    assert chosen() == "limits"
    live.errors.clear()
    live.asked = 0
    assert chosen() == "full"
    assert live.asked == 3
    del rules[3]
    assert chosen() == "cel"


def test_a_limit_that_is_not_set_matches_nothing() -> None:
    used = condition("capacityUsage().requestsUsagePercent", "GREATER_THAN_OR_EQUAL", "0", "number")
    assert not matches(used)


@pytest.mark.parametrize(
    ("broken", "place", "message"),
    [
        (condition("reqest.model", "EQUAL", "x"), "[0].expression", "no variable `reqest`"),
        (condition("tokens.inputs", "EXISTS"), "[0].expression", "There is `tokens.input`"),
        (condition("resource['nam']", "EXISTS"), "[0].expression", "no variable `resource.nam`"),
        (condition("errorRate(0)", "EQUAL", "1", "number"), "[0].expression", "windowMinutes"),
        (condition("capacityUsage('year')", "EXISTS"), "[0].expression", "the period is one of"),
        (condition("request.model", "EQUAL", "x", "number"), "[0].value", "A number is expected"),
        (condition("request.model", "EQUAL", "x", "boolean"), "[0].value", "`true` or `false`"),
        (condition("request.model", "IN", "[1", "json-array"), "[0].value", "not JSON"),
        (condition("request.model", "EQUAL", "[]", "json-object"), "[0].value", "no json object"),
        (condition("request.model", "PATTERN", "(a"), "[0].value", "no regular expression"),
        (condition("request.model", "PATTERN", "(a{99}){99}{99}"), "[0].value", "written out"),
        (condition("request.model", "PATTERN", "(?:" + "a?" * 450 + "){999}"), "[0].value", "out"),
        (condition("request.model", "PATTERN", "(?i)" + "é" * 300), "[0].value", "in a row"),
        (condition("request.model", "PATTERN", "(?x)a b"), "[0].value", "verbose"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    broken: Any, place: str, message: str
) -> None:
    with pytest.raises(InvalidRoutingError) as refusal:
        compile_rules(rule(group(broken)))
    assert f"routing.conditions[0].conditions[0].conditions{place}`" in str(refusal.value)
    assert message in str(refusal.value)


def test_a_rule_needs_a_model_or_blocks() -> None:
    yes = condition("request.model", "EXISTS")
    for unfinished in (group(yes), group(yes, then={})):
        with pytest.raises(InvalidRoutingError, match=r"routing\.conditions\[0\]\.then") as refusal:
            compile_rules(unfinished)
        assert refusal.value.param == "routing.conditions[0].then"
    assert decide(group(yes, then={}, action="BLOCK")).is_blocked


def test_groups_have_a_depth() -> None:
    nested = condition("request.model", "EXISTS")
    for _ in range(8):
        nested = group(nested)
    with pytest.raises(InvalidRoutingError, match="nested at most 8 deep"):
        compile_rules(rule(nested))


def test_rules_of_a_request_are_short_and_those_of_a_resource_are_compiled_once() -> None:
    long = compile_rules(*[rule(condition("request.model", "PATTERN", "ab|" * 300))] * 5)
    config = ResourceConfig(model=ModelSlot(model="gpt"), routing=long.config)
    stored = CompiledResource("support", config, "res_1")
    changed = replace(config, model=ModelSlot(model="mini"))
    again = CompiledResource("support", changed, stored=stored, characters_max=4_000)
    assert again.routing is stored.routing
    with pytest.raises(InvalidRoutingError, match="at most 4000 characters"):
        CompiledResource("support", changed, characters_max=4_000)


def test_search_for_many_values_in_a_large_request_is_false_and_told() -> None:
    words = ",".join(f"word{number}" for number in range(900))
    many = condition("request.allMessagesContent", "CONTAINS", words, "comma-delimited-list")
    few = condition("request.allMessagesContent", "CONTAINS", "urgent", "comma-delimited-list")
    routing = compile_rules(rule(many), rule(few))
    asked = {"model": "m", "input": "x" * 40_000 + "word3 urgent"}
    told = explain(routing, view(asked, surface=RESPONSES), NoLiveValues(), lambda _index: 0.0)
    assert "too many to look for 900 values" in str(told.rules[0].conditions[0].error)
    assert told.decision.index == 1
    asked["input"] = "word3 urgent"
    small = view(asked, surface=RESPONSES)
    assert choose(routing, small, NoLiveValues(), lambda _index: 0.0).index == 0
