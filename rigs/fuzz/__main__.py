"""`python -m rigs.fuzz [--seconds 600] [target ...]`: fuzz every target, and print a table."""

from __future__ import annotations

import argparse
import sys

from rigs.fuzz.growth import FACTOR, RATIO_MAX
from rigs.fuzz.session import Outcome, fuzz
from rigs.fuzz.targets import TARGETS


def main() -> int:
    """Return 0 if no check raised and no time grew faster than the input."""
    parser = argparse.ArgumentParser(prog="python -m rigs.fuzz")
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=600, help="for each target (default 600)")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    outcomes: list[Outcome] = []
    names = options.targets or list(TARGETS)
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name}, {options.seconds} s", flush=True)
        outcomes.append(fuzz(TARGETS[name], options.seconds))
        for finding in outcomes[-1].findings:
            print(f"  {finding}", flush=True)
    print(f"{'target':12} {'executions':>11} {'per s':>7} {'coverage':>9}", end="")
    print(f" {f'time at {FACTOR}x':>11} {'findings':>9}")
    for each in outcomes:
        print(
            f"{each.target:12} {each.executions:11} {each.executions / each.seconds:7.0f}", end=""
        )
        print(f" {each.coverage:9} {each.growth:10.1f}x {len(each.findings):9}")
    bad = [each for each in outcomes if each.findings or each.growth > RATIO_MAX]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
