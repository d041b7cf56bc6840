"""`python -m rigs.mutation [group ...]`: the mutation score of each group, survivors by name."""

from __future__ import annotations

import argparse
import sys

from rigs.mutation import bench
from rigs.mutation.changes import read_changes
from rigs.mutation.groups import Group, read_equivalents, read_groups
from rigs.mutation.score import Score, add_up


def main() -> int:
    """Return 0 when every requested group reaches the least score."""
    groups, percent_min = read_groups()
    parser = argparse.ArgumentParser(prog="python -m rigs.mutation")
    parser.add_argument("groups", nargs="*", metavar="group", help=", ".join(groups))
    parser.add_argument("--again", action="store_true", help="try only what survived the last run")
    parser.add_argument("--report", action="store_true", help="run nothing, report the last run")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(groups):
        parser.error(f"there is no group {', '.join(sorted(unknown))}")
    scores: dict[str, Score] = {}
    for name in options.groups or groups:
        scores[name] = judge(groups[name], again=options.again, only_report=options.report)
    print(f"{'group':10} {'mutants':>8} {'killed':>7} {'timeout':>8} {'equivalent':>11}", end="")
    print(f" {'survived':>9} {'unfinished':>11} {'score':>7}")
    for name, score in scores.items():
        print(f"{name:10} {score.mutants:8} {score.killed:7} {score.timeouts:8}", end="")
        print(f" {score.equivalent:11} {len(score.survivors):9} {score.unfinished:11}", end="")
        print(f" {score.percent:6.1f}%")
    good = all(each.percent >= percent_min and not each.unfinished for each in scores.values())
    return 0 if good else 1


def judge(group: Group, *, again: bool, only_report: bool) -> Score:
    """Run a group, print the survivors, and return its score."""
    if only_report:
        folder = bench.PLACE / group.name
    else:
        folder = bench.lay_out(group, again=again)
        print(f"{group.name}: running, see {folder.relative_to(bench.ROOT)}/run.log", flush=True)
        bench.run(folder, log=folder / "run.log")
    score = add_up(bench.read_codes(folder), read_equivalents(), read_changes(folder))
    for survivor in score.survivors:
        print(f"{survivor.mutant}\n  - {survivor.removed}\n  + {survivor.added}")
    return score


if __name__ == "__main__":
    sys.exit(main())
