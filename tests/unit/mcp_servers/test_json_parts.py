"""The parts of JSON are counted while it arrives, however it is cut."""

from __future__ import annotations

import pytest

from headgate.mcp_servers.model.json_parts import JsonPartCount

MANY = 1_000


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (rb'{"a": [1, 2, {}]}', 6),
        (rb'"{[,\",\\"', 1),
        (rb'["\\", "\\\"", ","]', 6),
        (b': a comment with one "\ndata: {}', 2),
    ],
)
def test_parts_are_counted_outside_of_texts_wherever_the_body_is_cut(
    body: bytes, parts: int
) -> None:
    for size in range(1, len(body) + 1):
        counted = JsonPartCount()
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        assert all(counted.add(each, MANY) for each in pieces)
        assert counted.parts == parts, size


def test_counting_ends_at_the_limit() -> None:
    counted = JsonPartCount()
    assert counted.add(b"[[" * 50, 100)
    assert not counted.add(b"[" * 1_000_000, 100)
    assert counted.parts == 101
