"""`python -m rigs.torture [--quick] [--seed N] [--kills N] [--only K1,S1] [--place sqlite]`."""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from rigs.torture import (
    clocks,
    disk,
    drain,
    flushes,
    kills,
    mixed,
    repeated,
    rollover,
    simulation,
    spending,
    storage,
)
from rigs.torture.harness import Result
from rigs.torture.oracle import VERDICTS
from rigs.torture.servers import PLACES

CONSOLE = Console(stderr=True, highlight=False)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rigs.torture", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run a short form of each part")
    parser.add_argument("--seed", type=int, default=4600, help="seed of all random choices")
    parser.add_argument("--kills", type=int, help="kills of K1 (200; quick 20)")
    parser.add_argument("--times", type=int, help="kills at each failpoint of K2 (20; quick 1)")
    parser.add_argument("--seeds", type=int, help="seeds of K6 (100,000; quick 300)")
    parser.add_argument("--seconds", type=float, default=600.0, help="longest time for K6")
    parser.add_argument("--place", choices=PLACES, help="only this database, in S1 to T3 (both)")
    limits = ("all", *spending.LIMITS)
    parser.add_argument("--limits", choices=limits, help="only this limit of S1 (one by one)")
    parser.add_argument("--repetitions", type=int, help="repetitions of S1 (20; quick 2)")
    parser.add_argument("--only", default="", help="parts to run, separated by commas")
    return parser.parse_args()


def report(text: str) -> None:
    """Print one line of progress."""
    CONSOLE.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {text}")


async def run_k1(given: argparse.Namespace) -> list[Result]:
    count = given.kills or (20 if given.quick else 200)
    return [await kills.kill_at_random(kills=count, clients=50, seed=given.seed, report=report)]


async def run_k2(given: argparse.Namespace) -> list[Result]:
    times = given.times or (1 if given.quick else 20)
    return [await kills.kill_at_points(times=times, clients=16, seed=given.seed, report=report)]


async def run_k3(given: argparse.Namespace) -> list[Result]:
    keys = 150 if given.quick else 1_000
    result = await repeated.repeat_across_kills(
        keys=keys, workers=32, seed=given.seed, report=report, wait_seconds=(0.1, 1.0)
    )
    return [result]


async def run_k4(_given: argparse.Namespace) -> list[Result]:
    return [await drain.stop_with_streams(streams=100, report=report)]


async def run_k5(given: argparse.Namespace) -> list[Result]:
    numbers = (1, 7, 30) if given.quick else range(1, 51)
    return [await flushes.fail_flushes(numbers=numbers, seed=given.seed, report=report)]


async def run_k6(given: argparse.Namespace) -> list[Result]:
    simulated = await asyncio.to_thread(
        simulation.simulate_many,
        first=given.seed,
        seeds=given.seeds or (300 if given.quick else 100_000),
        seconds=given.seconds,
        report=report,
    )
    return [simulated]


async def run_d1(given: argparse.Namespace) -> list[Result]:
    return [await disk.fill(seed=given.seed, report=report)]


async def run_storage(
    part: Callable[..., Coroutine[Any, Any, Result]], given: argparse.Namespace
) -> list[Result]:
    size = storage.QUICK if given.quick else storage.FULL
    return [await part(size=size, seed=given.seed, report=report)]


async def run_s1(given: argparse.Namespace) -> list[Result]:
    size = spending.QUICK if given.quick else spending.FULL
    if given.repetitions:
        size = msgspec.structs.replace(size, repetitions=given.repetitions)
    levels = [*((each,) for each in spending.LIMITS), spending.LIMITS]
    if given.limits:
        levels = [spending.LIMITS if given.limits == "all" else (given.limits,)]
    return [
        await spending.spend_exactly(kind, limits, size=size, report=report)
        for kind in choose_places(given)
        for limits in levels
    ]


def choose_places(given: argparse.Namespace) -> tuple[str, ...]:
    return (given.place,) if given.place else PLACES


async def run_s2(given: argparse.Namespace) -> list[Result]:
    size = (mixed.QUICK if given.quick else mixed.FULL).s2
    return [
        await mixed.spend_tightest(kind, size=size, seed=given.seed, report=report)
        for kind in choose_places(given)
    ]


async def run_s3(given: argparse.Namespace) -> list[Result]:
    size = (mixed.QUICK if given.quick else mixed.FULL).s3
    return [
        await mixed.spend_with_failures(kind, size=size, seed=given.seed, report=report)
        for kind in choose_places(given)
    ]


async def run_s5(given: argparse.Namespace) -> list[Result]:
    attempts = (mixed.QUICK if given.quick else mixed.FULL).s5
    return [
        await mixed.refuse_nobody(kind, attempts=attempts, seed=given.seed, report=report)
        for kind in choose_places(given)
    ]


async def run_s7(given: argparse.Namespace) -> list[Result]:
    size = (mixed.QUICK if given.quick else mixed.FULL).s7
    return [
        await mixed.spend_above_holds(kind, size=size, report=report)
        for kind in choose_places(given)
    ]


async def run_s9(given: argparse.Namespace) -> list[Result]:
    size = rollover.QUICK if given.quick else rollover.FULL
    return [
        await rollover.roll_over(kind, size=size, seed=given.seed, report=report)
        for kind in choose_places(given)
    ]


async def run_clocks(name: str, given: argparse.Namespace) -> list[Result]:
    size = clocks.QUICK if given.quick else clocks.FULL
    # Two clocks differ only where there are two servers.
    kinds = ("postgresql",) if name == "T3" else choose_places(given)
    return [
        await clocks.spend_by_wrong_clocks(name, kind, size=size, report=report) for kind in kinds
    ]


PARTS: dict[str, Callable[[argparse.Namespace], Coroutine[Any, Any, list[Result]]]] = {
    "K1": run_k1,
    "K2": run_k2,
    "K3": run_k3,
    "K4": run_k4,
    "K5": run_k5,
    "K6": run_k6,
    "D1": run_d1,
    "D2": functools.partial(run_storage, storage.lock_database),
    "D3": functools.partial(run_storage, storage.keep_reading),
    "D8": functools.partial(run_storage, storage.back_up),
    "S1": run_s1,
    "S2": run_s2,
    "S3": run_s3,
    "S5": run_s5,
    "S7": run_s7,
    "S9": run_s9,
    **{name: functools.partial(run_clocks, name) for name in clocks.CASES},
}


def draw_table(results: list[Result]) -> Table:
    """Return one row for each part, with the verdicts that were broken."""
    table = Table("", "what", "n", "verdicts", "figures")
    for result in results:
        broken = Counter(finding.verdict for finding in result.findings)
        counts = ", ".join(f"{name} {count}" for name, count in sorted(broken.items()))
        verdict = f"[red]{counts}[/]" if counts else "[green]all 0[/]"
        table.add_row(result.id, result.what, f"{result.n:,}", verdict, result.figures)
    return table


def main() -> int:
    """Run the requested parts; return 1 when anything was found."""
    given = read_arguments()
    results: list[Result] = []
    for part in given.only.split(",") if given.only else PARTS:
        if part not in PARTS:
            sys.exit(f"There is no part {part}; the parts are {', '.join(PARTS)}.")
        for result in asyncio.run(PARTS[part](given)):
            results.append(result)
            for finding in result.findings[:20]:
                CONSOLE.print(
                    f"  {result.id} {finding.verdict} ({VERDICTS[finding.verdict]}): {finding.text}"
                )
    CONSOLE.print(f"seed {given.seed}")
    Console(highlight=False, width=160).print(draw_table(results))
    return 1 if any(result.findings for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
