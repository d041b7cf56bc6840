"""`python -m rigs.soak`: run mixed calls through a Headgate, and say whether it leaks or slows."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvloop

from rigs.soak import report, retention
from rigs.soak.run import SoakPlan, soak


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if all bars are met, 1 if one is missed."""
    options = read_options(arguments)
    signal.signal(signal.SIGTERM, _leave)
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:7.0f} s  {text}", file=sys.stderr, flush=True)

    folder = Path(tempfile.mkdtemp(prefix="headgate-soak-", dir=options.folder))
    try:
        if options.what == "retention":
            aged = retention.RetentionPlan(rows=options.rows)
            return report.print_retention(uvloop.run(retention.run(aged, folder, say)))
        plan = SoakPlan(calls=options.calls, keys=options.keys, connections=options.connections)
        return report.print_soak(uvloop.run(soak(plan, folder, say)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    add = parser.add_argument
    add("what", nargs="?", choices=("calls", "retention"), default="calls")
    add("--calls", type=int, default=SoakPlan.calls, help="calls to make")
    add("--keys", type=int, default=SoakPlan.keys, help="distinct keys that make them")
    add("--connections", type=int, default=SoakPlan.connections, help="clients at the same time")
    add("--rows", type=int, default=5_000_000, help="aged receipts to delete (retention)")
    add("--folder", type=Path, help="where the database goes (default: the temporary folder)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
