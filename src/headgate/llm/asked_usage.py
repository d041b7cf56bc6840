"""Remove from a stream what is there only because the gateway asked for usage.

A provider that is asked for usage sends one more event with it, and `"usage":null` in all others.
`llm.tap` drops the event; this module cuts the member, and keeps every other byte.
"""

from __future__ import annotations

import re

import msgspec

from headgate.llm import json_members, sse

USAGE_KEY = b'"usage"'
"""The bytes that every event with the member contains."""
TAIL_BYTES = 1024
"""How much of the end of an event is searched: providers write the member there."""

# The rest up to the closing brace has no bracket, so the member is at the top level; and a quote
# after a comma outside of a text begins a key.
_REST = (
    rb'(?:(?:,[ ]?"[\w-]{1,64}":[ ]?(?:"[^"\\\r\n]*"|-?[0-9][0-9.eE+-]*|true|false|null))*'
    rb"\}[\r\n]*\Z)"
)
# Usually there are no blanks: a fixed text is found several times faster than a pattern.
_USUAL = b',"usage":null'
_to_the_end = re.compile(_REST).match
_SPACED = re.compile(rb',[ ]?"usage":[ ]?null(?=' + _REST + rb")")


def cut_null(event: bytes) -> bytes:
    """Return a whole event without the member `"usage":null` at the top level of its data. The data
    has to be on one line, as every known provider sends it."""
    cut = cut_null_at_end(event)
    return cut if len(cut) < len(event) else _search(event)


def cut_null_at_end(event: bytes) -> bytes:
    """Cut the member from an event or its end, only at the position where providers write it."""
    start = max(0, len(event) - TAIL_BYTES)
    at = event.rfind(_USUAL, start)
    if at >= 0 and _to_the_end(event, at + len(_USUAL)):
        return event[:at] + event[at + len(_USUAL) :]
    return event[:start] + _SPACED.sub(b"", event[start:], 1)


def _search(event: bytes) -> bytes:
    """Search every member, since the wanted one may be anywhere."""
    data = sse.parse_event(event).data
    at = event.find(data)
    if b"\n" in data or at < 0:
        return event
    try:
        found = json_members.find(data)
        has_null = any(
            each.name == "usage" and data[each.value_start : each.end] == b"null" for each in found
        )
        cut = json_members.cut(data, "usage") if has_null else data
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return event
    return event[:at] + cut + event[at + len(data) :]
