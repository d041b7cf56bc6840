from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.llm import request
from headgate.llm.convert.field_rules import FieldRules, apply_rules

RULES = FieldRules(
    accepted=frozenset({"model", "messages", "max_tokens", "random_seed", "stream"}),
    refused=("messages.name",),
    renamed={"max_completion_tokens": "max_tokens", "seed": "random_seed"},
)


def adapt(rules: FieldRules, **fields: Any) -> tuple[dict[str, Any], dict[str, str]]:
    body = request.decode(json.dumps({"model": "m", **fields}).encode())
    adapted, losses = apply_rules(body, rules)
    assert adapted.model == "m"
    return json.loads(adapted.body), dict(losses)


def test_field_that_the_provider_calls_otherwise_is_renamed() -> None:
    body, losses = adapt(RULES, max_completion_tokens=5, seed=7)
    assert body == {"model": "m", "max_tokens": 5, "random_seed": 7}
    assert losses == {}


def test_field_that_the_provider_does_not_know_is_left_out_and_reported() -> None:
    body, losses = adapt(RULES, store=True, user=None)
    assert body == {"model": "m"}
    assert losses == {"store": "lost"}


def test_several_fields_of_each_object_are_left_out() -> None:
    rules = FieldRules(refused=("messages.name", "messages.mood"))
    body, losses = adapt(rules, messages=[{"name": "a", "mood": "b", "content": "x"}])
    assert body["messages"] == [{"content": "x"}]
    assert losses == {"messages.0.name": "lost", "messages.0.mood": "lost"}


def test_field_of_each_object_in_a_list_is_left_out() -> None:
    messages = [{"role": "user", "name": "a", "content": "x"}, "?", {"role": "user", "name": None}]
    body, losses = adapt(RULES, messages=messages)
    assert body["messages"] == [{"role": "user", "content": "x"}, "?", {"role": "user"}]
    assert losses == {"messages.0.name": "lost"}
    assert adapt(RULES, messages="?")[0]["messages"] == "?"


def test_request_for_usage_that_is_left_out_is_asked_no_more() -> None:
    body = request.decode(b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}')
    adapted, losses = apply_rules(body, RULES)
    assert (adapted.includes_usage, adapted.has_stream_options) == (False, False)
    assert dict(losses) == {"stream_options": "lost"}


@pytest.mark.parametrize(
    "names", [("max_tokens", "max_completion_tokens"), ("seed", "random_seed")]
)
def test_name_that_the_request_has_already_wins(names: tuple[str, str]) -> None:
    for order in (names, reversed(names)):
        body, losses = adapt(RULES, **{name: len(name) for name in order})
        [kept] = set(names) & {"max_tokens", "random_seed"}
        assert body == {"model": "m", kept: len(kept)}
        assert set(losses) == set(names) - {kept}


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
        st.one_of(st.integers(-9, 9), st.text(max_size=4), st.lists(st.booleans())),
    )
)
def test_every_field_is_in_the_body_or_among_the_losses(fields: dict[str, Any]) -> None:
    fields = {name: value for name, value in fields.items() if name not in request.CHECKED}
    rules = FieldRules(accepted=frozenset({"model", "a", "b"}), renamed={"c": "a"})
    body, losses = adapt(rules, **fields)
    for name in fields:
        if not (name == "c" and "a" in fields):
            assert (rules.renamed.get(name, name) in body) != (name in losses)
