from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.kit import json_limits
from headgate.kit.json_limits import JsonLimitError, JsonLimits
from headgate.llm import request

LIMITS = JsonLimits()
SCANNED = JsonLimits(items_max=10**6)
SCANNED.plain_bytes_max = 0
"""Has every body scanned, as only large and unclear ones are."""
BOTH = pytest.mark.parametrize("limits", [LIMITS, SCANNED], ids=["tried", "scanned"])

TEXT = st.text(st.sampled_from('ab"\\:{}[],/\x00\u00e9\u2028\U0001f600'), max_size=4)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e16, 1e300, "1e999", '":', "\\u0022"]),
    TEXT,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=4)
STYLES = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, 1, "\t"]),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", " :\t")]),
    }
)


def refuse(body: bytes, limits: JsonLimits) -> JsonLimitError:
    with pytest.raises(JsonLimitError) as caught:
        json_limits.check(body, limits)
    return caught.value


@BOTH
@settings(max_examples=60, deadline=None)
@given(value=OBJECTS, style=STYLES)
def test_any_value_in_any_style_passes(
    limits: JsonLimits, value: dict[str, Any], style: dict[str, Any]
) -> None:
    json_limits.check(json.dumps(value, **style).encode(), limits)


@BOTH
@settings(max_examples=60, deadline=None)
@given(
    fields=st.tuples(OBJECTS, TEXT, VALUES),
    style=STYLES,
    depth=st.integers(0, 5),
    escaped=st.booleans(),
)
def test_key_that_comes_twice_is_found_wherever_it_is(
    limits: JsonLimits,
    fields: tuple[dict[str, Any], str, Any],
    style: dict[str, Any],
    depth: int,
    escaped: bool,
) -> None:
    value, key, first = fields
    whole = json.dumps({key: 1, **value}, **style).strip()[1:-1]
    name = "".join(f"\\u{ord(each):04x}" for each in key if ord(each) < 0x10000)
    shown = f'"{name}"' if escaped and max(map(ord, key), default=0) < 0x10000 else json.dumps(key)
    body = f"{{{shown}:{json.dumps(first, **style)},{whole}}}"
    for _ in range(depth):
        body = f'[0,{{"a":{body}}}]'
    assert "comes twice" in refuse(body.encode(), limits).message


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=40), st.text('{}[]:,"\\e019u.- tru').map(str.encode)))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    for limits in (LIMITS, SCANNED):
        is_taken(body, limits)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=20), st.text('{}[]:,"\\e019.- ').map(str.encode)), STYLES)
def test_fast_check_and_scan_agree(piece: bytes, style: dict[str, Any]) -> None:
    bodies = [b'{"a":' + piece + b"}", json.dumps({"a": piece.decode("latin-1")}, **style).encode()]
    for body in bodies:
        assert is_taken(body, LIMITS) == is_taken(body, SCANNED)


def is_taken(body: bytes, limits: JsonLimits) -> bool:
    try:
        request.decode(body, limits)
    except request.InvalidRequestError:
        return False
    return True


@BOTH
@pytest.mark.parametrize(
    ("body", "said", "path"),
    [
        (b'{"model":"a","model":"b"}', "'model' comes twice in one object (byte 13)", "model"),
        (b'{"model":"a","mod\\u0065l":"b"}', "'model' comes twice", "model"),
        (b'{"a":1,"a":1,"x":1e16}', "'a' comes twice", "a"),
        (b'{"a":1,"a":2,"x":"\\u0022"}', "'a' comes twice", "a"),
        (b'{"":1,"":2}', "'' comes twice", None),
        (b'{"a\\\\":1,"a\\\\":2}', "comes twice", "a\\"),
        (b'{"m":[{"role":1},{"role":2,"role":3}]}', "'role' comes twice", "m.role"),
        (b'{"a":[1,1e999]}', "A number is out of range (byte 8)", "a"),
        (b'{"a":-1E+400}', "out of range", "a"),
        (b'{"a":' + b"9" * 5000 + b"}", "out of range", "a"),
        (b'{"a":' + b"9" * 400 + b".0}", "out of range", "a"),
        (b'{"a":"\xc3\xa9\xff"}', "not valid UTF-8 (byte 8)", None),
        (b'{"a":"\xc0\xaf"}', "not valid UTF-8 (byte 6)", None),
        (b'{"a":"\xed\xa0\x80"}', "not valid UTF-8", None),
        (b'{"\xf4\x90\x80\x80":1}', "not valid UTF-8", None),
        (b'{"a":"' + b"\xc3\xa9" * 70_000 + b'\xff"}', "not valid UTF-8 (byte 140006)", None),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "nested deeper than 64 (byte 68)", None),
        (b'{"a":[' + b'{"b":[],"c":0},' * 200 + b"[" * 63 + b"]" * 63 + b"]}", "deeper", None),
    ],
)
def test_error_names_the_field_and_the_offset(
    limits: JsonLimits, body: bytes, said: str, path: str | None
) -> None:
    fault = refuse(body, limits)
    assert said in fault.message
    assert fault.path == path


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' + b"[" * 63 + b"]" * 63 + b"}",
        b'{"a":' + b"[" * 62 + b"{}" + b"]" * 62 + b"}",
        b'{"a":1e308,"b":1e-999,"c":' + b"9" * 4000 + b',"d":0.' + b"9" * 5000 + b"}",
        b'{"model":"model","a":{"model":1},"b":[{"model":1},{"model":1}]}',
        b'{"a":"\\ud83d\\ude00 \\u0000 \\u0022:"}',
        b'{"A":1,"a":2,"a ":3}',
    ],
)
def test_unusual_but_unambiguous_json_passes(limits: JsonLimits, body: bytes) -> None:
    json_limits.check(body, limits)


def test_too_many_keys_and_values_are_refused() -> None:
    limits = JsonLimits(keys_max=100, items_max=200)
    few = b'{"a":[' + b'{"k":0},' * 99 + b"0]}"
    json_limits.check(few, limits)
    assert "more than 100 keys" in refuse(few[:-3] + b'{"k":0}]}', limits).message
    for value in (b'"",', b"[],", b"{},", b'["x"],'):
        many = b'{"a":[' + value * 201 + b"0]}"
        assert "more than 200 values" in refuse(many, limits).message
    json_limits.check(b'{"a":[' + b"1," * 5000 + b'0],"s":"' + b'\\":{[,' * 999 + b'"}', limits)


@pytest.mark.parametrize(
    ("before", "piece", "after"),
    [
        (b'{"model":7,', b"x", b""),
        (b'{"model":7,', b'"', b""),
        (b'{"a":[', b'"\\u0022",', b"0]}"),
        (b'{"a":"', b'\\"', b'"}'),
        (b'{"a":"', b"\\ud83d", b""),
        (b'{"a":', b"9", b"}"),
        (b'{"a":[', b"1e100,", b"0]}"),
        (b'{"model":7', b" ", b"}"),
        (b"", b"[", b""),
        (b"", b'{"a":', b""),
        (b"", b'{"a":[],', b""),
        (b'{"a":0', b',"a":0', b"}"),
    ],
)
def test_time_is_in_proportion_to_the_body(before: bytes, piece: bytes, after: bytes) -> None:
    def measure(size: int) -> float:
        body = before + piece * (size // len(piece)) + after
        times: list[float] = []
        for _ in range(3):
            begun = time.process_time()
            is_taken(body, LIMITS)
            times.append(time.process_time() - begun)
        return min(times)

    # A quadratic search would take 64 times as long for 8 times the size.
    assert measure(1 << 20) < 24 * measure(1 << 17) + 0.05
