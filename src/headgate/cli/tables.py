"""Prints tables whole: an id that is cut cannot be given to the next command."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDE_COLUMNS = 10_000


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table as wide as the terminal, or as its longest words need.

    Piped, each row is one line. Cells wrap between words only, and `[red]` in a name is no markup.
    """
    console = console or Console()
    for column in table.columns:
        words = (word for cell in column.cells for word in str(cell).split())
        column.min_width = max(map(len, words), default=0)
    options = console.options.update(max_width=WIDE_COLUMNS, markup=False)
    width = Measurement.get(console, options, table).maximum
    if console.is_terminal:
        width = min(width, max(console.width, _measure_least(table)))
    console.width = width
    console.print(table, markup=False)


def _measure_least(table: Table) -> int:
    """Return the least width at which no word is cut, with the lines between columns."""
    return sum((column.min_width or 0) + 3 for column in table.columns) + 1
