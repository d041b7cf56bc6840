"""`python -m rigs.rotation`: rotate all keys in full, against a running gateway.

5,000 secrets are sealed again, and the master key is replaced, while a caller makes 100 calls a
second and the commands are killed twenty times. Prints one line of figures; status 1 for a call
that failed or a row that is left under an old key.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from rigs.rotation.harness import Caller, add_credentials
from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.upstream import running_upstream

COMPLETION = b'{"id":"c1","object":"chat.completion","model":"gpt-5.4-mini","choices":[]}'
CALM_CALLS = 1000
ROTATION_SECONDS_MAX = 600.0
LIVE_SECONDS_MAX = 3.0
"""The longest life of a command that is to be killed; it starts in about half a second."""


class Figures(msgspec.Struct):
    """Hold what one run measured. Latencies in milliseconds; `seconds` of the rotations alone."""

    secrets: int
    kills: int
    calls: int
    calls_during: int
    failed: int
    seconds: float
    rows_on_old_key: int
    unreadable: int
    p99_before: float
    p99_beside: float
    """The p99 while as many unrelated commands run and are killed: the cost of a second process."""
    p99_during: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="rigs.rotation", description=__doc__)
    parser.add_argument("--secrets", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--per-second", type=float, default=100)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="rotation-") as folder,
        running_upstream() as upstream,
        running_gateway(Path(folder) / "data", access_log="false") as gateway,
    ):
        upstream.script = lambda received: received.answer(COMPLETION)
        names = add_credentials(gateway.data, count=given.secrets, base_url=upstream.base_url)
        caller = Caller(gateway, names, per_second=given.per_second).wait_until_known()
        figures = _measure(gateway, caller, given.secrets, given.kills)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(figures)).decode() + "\n")
    return int(bool(figures.failed or figures.rows_on_old_key or figures.unreadable))


def _measure(gateway: Gateway, caller: Caller, count: int, kills: int) -> Figures:
    with caller:
        caller.wait_for_calls(CALM_CALLS)
        beside = time.monotonic()
        for _ in range(kills + 2):
            _run_and_kill(gateway, "status")
        began = time.monotonic()
        killed = 0
        while killed < kills:
            killed += _run_and_kill(gateway, ("rotate-keys", "rotate-master")[killed % 2])
        for command in ("rotate-keys", "rotate-master"):
            process = _start(gateway, command)
            assert process.wait(timeout=ROTATION_SECONDS_MAX) == 0, command
        ended = time.monotonic()
        caller.wait_for_calls(CALM_CALLS // 10)
    status = msgspec.json.decode(gateway.run("vault", "status", "--json").stdout)
    checked = gateway.run("vault", "check", "--json")
    before = [took for at, took in caller.latencies if at < beside]
    besides = [took for at, took in caller.latencies if beside <= at < began]
    during = [took for at, took in caller.latencies if began <= at < ended]
    return Figures(
        secrets=count,
        kills=kills,
        calls=len(caller.latencies),
        calls_during=len(during),
        failed=len(caller.failures),
        seconds=round(ended - began, 1),
        rows_on_old_key=sum(each["rows"] for each in status["keys"] if each["is_retired"]),
        unreadable=len(msgspec.json.decode(checked.stdout)),
        p99_before=_p99(before),
        p99_beside=_p99(besides),
        p99_during=_p99(during),
    )


def _run_and_kill(gateway: Gateway, command: str) -> bool:
    """Return whether the command was killed before it had ended."""
    process = _start(gateway, command)
    seconds = secrets.randbelow(1000) / 1000 * LIVE_SECONDS_MAX
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL
    return False


def _start(gateway: Gateway, command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "headgate.cli", "vault", command, "--data", str(gateway.data)],
        env=gateway.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _p99(latencies: list[float]) -> float:
    ordered = sorted(latencies)
    return round(ordered[int(len(ordered) * 0.99)] * 1000, 2) if ordered else 0.0


if __name__ == "__main__":
    sys.exit(main())
