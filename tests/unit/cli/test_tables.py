"""Tables on terminals of all widths, and in pipes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from headgate.cli.tables import print_table

IDS = [f"cred_01a22992b696dffcad9369360000{number:04d}" for number in range(3)]


def render(width: int, *, is_terminal: bool) -> str:
    table = Table("Id", "Owner", "Name", "Address")
    for each in IDS:
        table.add_row(each, f"org_{each}", "a name of several words", "https://example.com/v1")
    out = io.StringIO()
    print_table(
        table, Console(file=out, width=width, force_terminal=is_terminal, color_system=None)
    )
    return out.getvalue()


@pytest.mark.parametrize("width", [20, 80, 120, 300])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_id_is_cut(width: int, *, is_terminal: bool) -> None:
    told = render(width, is_terminal=is_terminal)
    for each in IDS:
        assert f" {each} " in told
        assert f" org_{each} " in told
    assert "…" not in told


def test_cell_is_printed_without_markup() -> None:
    names = ["[/x]", "[red]no[/]", "[link=https://example.com]here", "plain"]
    table = Table("Name")
    for each in names:
        table.add_row(each)
    out = io.StringIO()
    print_table(table, Console(file=out, width=80, force_terminal=True, color_system=None))
    assert all(f" {each} " in out.getvalue() for each in names)


def test_piped_row_is_one_line() -> None:
    rows = [line for line in render(80, is_terminal=False).splitlines() if "cred_" in line]
    assert len(rows) == len(IDS)
    assert all("a name of several words" in row for row in rows)


def test_table_fits_a_wide_enough_terminal() -> None:
    lines = render(140, is_terminal=True).splitlines()
    assert max(map(len, lines)) <= 140
