"""Change members of a JSON object in its bytes; every other byte stays as it came."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

_BEGINNING = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*")
_KEY = re.compile(rb'"(?:[^"\\]|\\.)*+"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_COMMA = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class JsonMember(NamedTuple):
    """Locate a member: its key begins at `start`, its value at `value_start`."""

    name: str
    start: int
    value_start: int
    end: int


def find(data: bytes) -> list[JsonMember]:
    """Return the members of an object, in order.

    Raise `msgspec.DecodeError`, `UnicodeDecodeError` or `RecursionError` for what is no JSON
    object, and `ValueError` where a key comes twice.
    """
    values = _decode(data)
    members: list[JsonMember] = []
    beginning = _BEGINNING.match(data)
    at = beginning.end() if beginning is not None else 0
    for name, raw in values.items():
        key, value = _KEY.match(data, at), bytes(raw)
        if key is None or not data.startswith(value, key.end()):
            raise ValueError("A key comes twice.")
        end = key.end() + len(value)
        members.append(JsonMember(name, at, key.end(), end))
        comma = _COMMA.match(data, end)
        at = end if comma is None else comma.end()
    return members


def cut(data: bytes, name: str) -> bytes:
    """Return the object without the member of this name and one comma. Raise as `find`."""
    members = find(data)
    for index, member in enumerate(members):
        if member.name != name:
            continue
        start, end = member.start, member.end
        if index + 1 < len(members):
            end = members[index + 1].start
        elif index > 0:
            start = members[index - 1].end
        return data[:start] + data[end:]
    return data


def put(data: bytes, name: str, value: bytes) -> bytes:
    """Return the object with this value under a name: in place of the old one, else as last member.

    `name` needs no escapes. Raise as `find`.
    """
    members = find(data)
    for member in members:
        if member.name == name:
            return data[: member.value_start] + value + data[member.end :]
    end = members[-1].end if members else data.index(b"{") + 1
    comma = b"," if members else b""
    return b'%b%b"%b":%b%b' % (data[:end], comma, name.encode(), value, data[end:])
