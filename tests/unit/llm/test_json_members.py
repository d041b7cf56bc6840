"""Members of an object are changed in place, in its bytes."""

from __future__ import annotations

import msgspec
import pytest

from headgate.llm import json_members

ODD = b' {\n"a" : [1, {"b":2}] ,\t"\\u0062\\"" : "}," , "c":null }\n'


def test_members_are_found_where_they_stand() -> None:
    found = json_members.find(ODD)
    assert [each.name for each in found] == ["a", 'b"', "c"]
    assert [ODD[each.value_start : each.end] for each in found] == [
        b'[1, {"b":2}]',
        b'"},"',
        b"null",
    ]
    assert json_members.find(b"{}") == []


def test_member_is_cut_with_one_comma() -> None:
    assert json_members.cut(ODD, "a") == b' {\n"\\u0062\\"" : "}," , "c":null }\n'
    assert json_members.cut(ODD, 'b"') == b' {\n"a" : [1, {"b":2}] ,\t"c":null }\n'
    assert json_members.cut(ODD, "c") == b' {\n"a" : [1, {"b":2}] ,\t"\\u0062\\"" : "}," }\n'
    assert json_members.cut(ODD, "d") == ODD
    assert json_members.cut(b'{ "a" : 1 }', "a") == b"{  }"


def test_value_is_put_in_the_place_of_the_old_one_or_at_the_end() -> None:
    assert json_members.put(ODD, "c", b"7") == ODD.replace(b"null", b"7")
    assert json_members.put(b'{ "a" : 1 }\n', "b", b"2") == b'{ "a" : 1,"b":2 }\n'
    assert json_members.put(b" { }", "b", b"2") == b' {"b":2 }'


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a":1', b'{"a":1}x', b'"a"', b"\xff"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
        json_members.find(data)


def test_key_that_comes_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        json_members.find(b'{"a":1,"a":2,"b":3}')
