"""`python -m rigs.contract [--examples N]`: all phases as every role, on one server.

Exit with 1 where an answer is a server error, breaks the document, or accepts what it forbids.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from pathlib import Path

from rigs.contract.roles import LOCKING_OUT, find_roles
from rigs.contract.run import PHASES, run
from tests.fakes.gateway import find_port, running_gateway


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=200, help="examples for each operation")
    parser.add_argument("--phases", default=PHASES)
    received = parser.parse_args()
    faults = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        running_gateway(
            Path(folder) / "data", simulator="true", simulator_port=find_port()
        ) as gateway,
    ):
        for role, headers in find_roles(gateway).items():
            print(f"==> as the {role}", flush=True)
            run_as_role = functools.partial(
                run,
                gateway,
                headers,
                folder=Path(folder),
                phases=received.phases,
                examples=received.examples,
            )
            for report in (
                run_as_role(without=LOCKING_OUT),
                run_as_role(only=LOCKING_OUT),
            ):
                print(report.text, flush=True)
                faults += not report.is_clean
        server_log = gateway.log.read_text()
        print(f"==> {server_log.count('api.fault')} faults in the log of the server", flush=True)
        faults += "api.fault" in server_log
    sys.exit(1 if faults else 0)


main()
