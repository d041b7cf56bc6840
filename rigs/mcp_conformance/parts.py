"""The three parts that the official tests look at, each started as they need it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rigs.mcp_conformance import official
from rigs.mcp_conformance.official import Report
from tests.fakes.gateway import find_port, running_gateway

ROOT = Path(__file__).parents[2]


def check_server(folder: Path, revision: str) -> Report:
    with running_gateway(
        folder / "data",
        program="rigs.mcp_conformance.serve",
        simulator="true",
        simulator_port=find_port(),
    ) as gateway:
        return official.check_server(f"{gateway.url}/mcp", revision)


def check_client(_folder: Path, revision: str) -> Report:
    python = f"env PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)}"
    return official.check_client(f"{python} -m rigs.mcp_conformance.client", revision)


PARTS: Mapping[str, Callable[[Path, str], Report]] = {
    "server": check_server,
    "client": check_client,
}
