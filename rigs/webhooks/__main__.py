"""`python -m rigs.webhooks`: the speed of deliveries, and W1 of the fault matrix.

`speed` measures deliveries per second to a fast receiver in another process; the bar is 1,000.
`kills` kills servers while they deliver: nothing may be lost, and repetitions have the same id.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from rigs.torture.servers import PLACES
from rigs.webhooks import kills, speed

PER_SECOND_MIN = 1_000.0
REPEATED_RATIO_MAX = 0.01


def print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def measure_speed(place: str, options: argparse.Namespace) -> bool:
    found = speed.measure(place, events=options.events, servers=options.servers)
    is_met = found.per_second >= PER_SECOND_MIN
    print_line(
        f"{place}: {found.per_second:,.0f} deliveries per second ({found.deliveries} in "
        f"{found.seconds:.2f} s, {found.servers} servers){'' if is_met else '  MISSED'}"
    )
    return is_met


def run_kills(place: str, options: argparse.Namespace) -> bool:
    outcome = asyncio.run(
        kills.run(
            place, events=options.events, kills=options.kills, seed=options.seed, report=print_line
        )
    )
    print_line(
        f"{place}: {outcome.events} events, {outcome.kills} kills, {outcome.received} deliveries, "
        f"{outcome.repeated} repeated ({outcome.repeated_ratio:.2%})"
    )
    for each in outcome.findings:
        print_line(f"{place}: {each}")
    return not outcome.findings and outcome.repeated_ratio <= REPEATED_RATIO_MAX


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if all is well, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m rigs.webhooks", description=__doc__)
    parser.add_argument("part", choices=("speed", "kills"))
    parser.add_argument("--place", choices=PLACES, action="append")
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--servers", type=int, default=1, help="of the measurement")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    part = {"speed": measure_speed, "kills": run_kills}[options.part]
    results = [part(place, options) for place in options.place or PLACES]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
