from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from msgspec import Meta

from headgate.settings import Settings, variable_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def show(default: object) -> str:
    if default is None or default == ():
        return "(none)"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


@pytest.mark.parametrize(
    ("name", "default"),
    list(zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True)),
)
def test_setting_is_documented_with_its_default_and_reason(name: str, default: object) -> None:
    hints = get_type_hints(Settings, include_extras=True)
    [meta] = [part for part in get_args(hints[name]) if isinstance(part, Meta)]
    row = f"| `{variable_of(name)}` | {show(default)} | {meta.description} |"
    assert row in DOCUMENT.read_text().splitlines()


def test_nothing_is_documented_that_does_not_exist() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    assert len(rows) == len(Settings.__struct_fields__)
