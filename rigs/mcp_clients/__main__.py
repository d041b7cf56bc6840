"""`python -m rigs.mcp_clients`: start a server, let each client connect, and tell which did."""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path

from rigs.mcp_clients.checks import CHECKS, OUT_OF_REACH, Visit
from tests.fakes.consent import sign_up
from tests.fakes.gateway import find_port, running_gateway


def main() -> None:
    failures = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        running_gateway(
            Path(folder) / "data", simulator="true", simulator_port=find_port()
        ) as gateway,
    ):
        visit = Visit(gateway, sign_up(gateway))
        for number, (name, check) in enumerate(CHECKS.items()):
            try:
                check(visit, Path(folder) / f"home-{number}")
            # Whatever goes wrong with one client, the others are tried.
            except Exception:  # noqa: BLE001 - the clients are not ours
                trace = traceback.format_exc()[-2_000:]
                if OUT_OF_REACH in trace:
                    print(f"==> {name}: not tried, its description is out of reach", flush=True)
                    continue
                failures += 1
                print(f"==> {name}: failed\n{trace}", flush=True)
            else:
                print(f"==> {name}: connected", flush=True)
    sys.exit(1 if failures else 0)


main()
