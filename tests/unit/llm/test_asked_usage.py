"""What asking for usage added to an event is taken out, and no other byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.llm.asked_usage import TAIL_BYTES, cut_null

LONG = "x" * (2 * TAIL_BYTES)


@pytest.mark.parametrize(
    ("data", "left"),
    [
        ('{"a":1,"usage":null}', '{"a":1}'),
        ('{"a": 1, "usage": null}', '{"a": 1}'),
        ('{"usage":null,"a":1}', '{"a":1}'),
        ('{"usage": null, "a": 1}', '{"a": 1}'),
        ('{ "a" : 1 , "usage" : null , "b" : 2 }', '{ "a" : 1 , "b" : 2 }'),
        ('{"a":1,\t"usage"\t:null\t}', '{"a":1\t}'),
        ('{"usage":null}', "{}"),
        (
            '{"a":[{"b":{}}],"usage":null,"obfuscation":"Zx9"}',
            '{"a":[{"b":{}}],"obfuscation":"Zx9"}',
        ),
        ('{"a":1,"usage":null,"b":{"c":[1]}}', '{"a":1,"b":{"c":[1]}}'),
        (f'{{"usage":null,"a":"{LONG}"}}', f'{{"a":"{LONG}"}}'),
        (f'{{"a":"{LONG}","usage":null}}', f'{{"a":"{LONG}"}}'),
        ('{"a":{"usage":null},"usage":null}', '{"a":{"usage":null}}'),
        ('{"a":"\\"usage\\":null","usage":null}', '{"a":"\\"usage\\":null"}'),
    ],
)
@pytest.mark.parametrize(
    ("before", "after"), [("", "\n\n"), ("event: x\r\n", "\r\n\r\n"), (": c\n", "\n\n")]
)
def test_null_usage_at_the_top_level_is_removed(
    data: str, left: str, before: str, after: str
) -> None:
    event = f"{before}data: {data}{after}".encode()
    assert cut_null(event) == f"{before}data: {left}{after}".encode()


@pytest.mark.parametrize(
    "data",
    [
        '{"a":{"b":1,"usage":null}}',
        '{"a":[{"usage":null}]}',
        '{"a":[{"b":1,"usage":null}],"c":"d"}',
        '{"usage":{"a":null}}',
        '{"a":1,"usage":{},"b":null}',
        '{"a":"\\",\\"usage\\":null}"}',
        '{"a":",\\"usage\\":null","b":"usage"}',
        '{"usages":null,"a":"usage"}',
        '["usage",null]',
        '"usage"',
        "[DONE]",
        '{"a":1,"usage":nul',
    ],
)
def test_everything_else_stays(data: str) -> None:
    event = f"data: {data}\n\n".encode()
    assert cut_null(event) == event


_texts = st.text('",:{}\\a', max_size=6)
_values = st.recursive(
    st.none() | st.integers(0, 9) | _texts | st.just("usage"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["usage", "a"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["usage", "a", "b", "usage "]), _values), st.booleans())
def test_client_reads_the_same_but_for_the_null(given: dict[str, object], spaced: bool) -> None:
    separators = (", ", ": ") if spaced else (",", ":")
    event = b"data: " + json.dumps(given, separators=separators).encode() + b"\n\n"
    if given.get("usage", 0) is None:
        del given["usage"]
    left = b"data: " + json.dumps(given, separators=separators).encode() + b"\n\n"
    assert cut_null(event) == left
