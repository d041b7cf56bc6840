"""The map of features names places and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "features.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| feature")
]
QUOTED = re.compile(r"`([^`]+)`")


def columns(row: str) -> list[str]:
    return [column.strip() for column in row.strip("|").split(" | ")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: columns(row)[0][:40])
def test_feature_lives_somewhere_and_is_shown(row: str) -> None:
    _, _, places, tests = columns(row)
    assert QUOTED.findall(places)
    for place in QUOTED.findall(places):
        assert (ROOT / place).exists(), place
    assert QUOTED.findall(tests)
    for test in QUOTED.findall(tests):
        path, _, name = test.partition("::")
        text = (ROOT / path).read_text()
        assert not name or re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), test


def test_no_feature_has_two_rows() -> None:
    """Merges keep both versions of a row."""
    names = [columns(row)[0] for row in ROWS]
    assert sorted({name for name in names if names.count(name) > 1}) == []
