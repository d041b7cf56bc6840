"""`python -m rigs.processes`: managed calls of 2 and of 8 gateways on one PostgreSQL, one wallet.

All of them pay from the same wallet, so that its row is the hottest one of the database. The total
of 8 must not fall below that of 2. Rounds of both are interleaved; more gateways than cores show
contention, and not speed. `--rounds 5 --seconds 3 --connections 64 --many 8`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Generator, Sequence
from pathlib import Path

from bench import machine, traffic
from rigs.torture.servers import Servers, running_servers
from tests.fakes.gateway import Gateway

FEW = 2
RATIO_MIN = 1.0
WALLET_NANO = 1_000_000 * 10**9
WARMUP_SECONDS = 0.5


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rigs.processes", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=3.0, help="length of one window")
    add("--connections", type=int, default=64, help="of all gateways of a window together")
    add("--many", type=int, default=8, help="gateways of the larger group")
    add("--credential", default="managed", help="`own`: without wallet, for comparison")
    return parser.parse_args()


class Load:
    """Load some of the gateways at once, each by a load program of its own."""

    def __init__(self, folder: Path, upstream: int, credential: str) -> None:
        self._folder = folder
        self._credential = credential
        self._program = machine.build_native("load", folder)
        self._expected = folder / "expected"
        url = f"http://127.0.0.1:{upstream}/v1/chat/completions"
        with urllib.request.urlopen(url, traffic.render_body(traffic.SMALL)) as response:
            self._expected.write_bytes(response.read())

    def run(
        self, gateways: Sequence[Gateway], key: str, *, connections: int, seconds: float
    ) -> float:
        """Return the calls per second of all of them together. Raise `BenchError`."""
        running = [
            subprocess.Popen(
                [
                    *(str(self._program), "--port", str(each.port)),
                    *("--request", str(self._render(each, key)), "--expect", str(self._expected)),
                    *("--connections", str(max(1, connections // len(gateways)))),
                    *("--seconds", str(seconds), "--warmup", str(WARMUP_SECONDS)),
                ],
                stdout=subprocess.PIPE,
            )
            for each in gateways
        ]
        reports = [json.loads(each.communicate()[0]) for each in running]
        wrong = [each["first_error"] for each in reports if each["errors"]]
        if wrong:
            raise machine.BenchError(f"a wrong answer: {wrong[0]}")
        return sum(each["requests"] / (each["window"] / 1e9) for each in reports)

    def _render(self, gateway: Gateway, key: str) -> Path:
        address = traffic.Address(gateway.port, key=key, credential=self._credential)
        path = self._folder / f"request-{gateway.port}"
        path.write_bytes(traffic.render_request(traffic.SMALL, address))
        return path


@contextlib.contextmanager
def running_upstream(folder: Path) -> Generator[int]:
    """Run the bench's upstream, on no core of its own; yield its port."""
    program, port = machine.build_native("upstream", folder), machine.free_port()
    process = subprocess.Popen([str(program), str(port)], stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def measure(servers: Servers, load: Load, options: argparse.Namespace) -> list[tuple[float, float]]:
    """Return the totals of few and of many gateways, for each round."""
    totals: list[tuple[float, float]] = []
    for number in range(1, options.rounds + 1):
        few, many = (
            load.run(
                servers.gateways[:count],
                servers.key,
                connections=options.connections,
                seconds=options.seconds,
            )
            for count in (FEW, options.many)
        )
        totals.append((few, many))
        print(
            f"round {number}: {few:,.0f} calls/s of {FEW}, {many:,.0f} of {options.many}, ratio "
            f"{many / few:.2f}",
            flush=True,
        )
    return totals


def main() -> int:
    """Return 1 when the total of many is below that of few, or the ledger is not right."""
    options = read_options()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="processes-")))
        upstream = stack.enter_context(running_upstream(folder))
        url = f"http://127.0.0.1:{upstream}/v1"
        servers = stack.enter_context(
            running_servers("postgresql", count=options.many, provider_url=url)
        )
        servers.fill(WALLET_NANO)
        totals = measure(servers, Load(folder, upstream, options.credential), options)
        findings = servers.judge_ledger()
    ratio = statistics.median(many / few for few, many in totals)
    for finding in findings[:10]:
        print(f"{finding.verdict}: {finding.text}")
    print(
        f"{options.many} gateways against {FEW}: {ratio:.2f} (median of {len(totals)} rounds; at "
        f"least {RATIO_MIN:g}); the ledger has {len(findings)} findings"
    )
    return 1 if ratio < RATIO_MIN or findings else 0


if __name__ == "__main__":
    sys.exit(main())
