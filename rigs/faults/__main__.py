"""`python -m rigs.faults`: the whole matrix, several times, as a table."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rigs.faults.cells import SHAPES, Cell, is_heavy, list_cells
from rigs.faults.harness import running_harness
from rigs.faults.matrix import Matrix

REAL = {
    "connect_seconds": 1,
    "first_byte_seconds": 5,
    "idle_seconds": 5,
    "total_seconds": 15,
}
"""A quarter to a fortieth of the default deadlines, in their proportions."""
LONG = {
    "U10.drip": "seconds=1",
    "U20.flood": "bytes=2147483648",
    "U20.announced": "bytes=2147483648",
}


def main() -> int:
    """Run and print; return 0 if every cell passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=5, help="calls of each cell")
    parser.add_argument("--quick", action="store_true", help="the deadlines of the tests, n = 1")
    parser.add_argument("--only", default="", help="run the cells whose name begins with this")
    given = parser.parse_args()
    cells = [c for c in list_cells({} if given.quick else LONG) if c.name.startswith(given.only)]
    times = 1 if given.quick else given.n
    settings = {} if given.quick else REAL
    with (
        tempfile.TemporaryDirectory() as folder,
        running_harness(Path(folder), **settings) as harness,
    ):
        matrix = Matrix(harness, 3.0 if given.quick else REAL["total_seconds"])
        matrix.run([cell for cell in cells if not is_heavy(cell)] * times)
        matrix.run_alone([cell for cell in cells if is_heavy(cell)] * min(times, 2))
        failures = print_table(matrix)
        leaks = matrix.find_leaks()
    for leak in leaks:
        print(f"LEAK: {leak}")
    return 1 if failures or leaks else 0


def print_table(matrix: Matrix) -> int:
    """Print a line per script with its passes on each wire, then every failure once."""
    passed: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    failures: dict[tuple[Cell, str], int] = {}
    slowest = 0.0
    for case, faults in matrix.judge():
        passed[case.cell.name, case.cell.shape].append(not faults)
        slowest = max(slowest, case.response.seconds)
        for fault in faults:
            failures[case.cell, fault] = failures.get((case.cell, fault), 0) + 1
    columns = [f"{wire}{' stream' if streams else ''}" for wire, streams in SHAPES]
    print(f"{'':16}" + "".join(f"{column:>18}" for column in columns))
    for name in dict.fromkeys(name for name, _ in passed):
        counts = [passed.get((name, column), []) for column in columns]
        shown = [f"{sum(count)}/{len(count)}" if count else "-" for count in counts]
        print(f"{name:16}" + "".join(f"{text:>18}" for text in shown))
    for (cell, fault), count in failures.items():
        print(f"FAILED: {cell.name} on {cell.shape}: {fault} ({count} times)")
    calls = [good for goods in passed.values() for good in goods]
    peak = max(matrix.peaks.values(), default=0)
    print(f"{sum(calls)} of {len(calls)} calls in {len(passed)} cells passed;")
    print(f"slowest {slowest:.1f} s; most memory of one call {peak / (1 << 20):.1f} MiB")
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
