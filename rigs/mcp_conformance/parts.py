"""The three parts that the official tests look at, each started as they need it."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2

from rigs.mcp_conformance import official
from rigs.mcp_conformance.official import Report
from tests.fakes.consent import agree, sign_up
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


def check_authorization_server(folder: Path, revision: str) -> Report:
    """Let a client connect that registers itself, and a person agree who has just signed up."""
    with running_gateway(folder / "data", simulator="true", simulator_port=find_port()) as gateway:
        port, owner = find_port(), sign_up(gateway)
        description = {
            "client_name": "Official tests",
            "redirect_uris": [f"http://127.0.0.1:{port}/callback"],
            "token_endpoint_auth_method": "none",
        }
        registered = httpx2.post(f"{gateway.url}/oauth/register", json=description)
        registered.raise_for_status()
        return official.check_authorization_server(
            gateway.url,
            revision,
            client_id=registered.json()["client_id"],
            port=port,
            log_in=functools.partial(agree, email=owner.email, password=owner.password),
        )


PARTS: Mapping[str, Callable[[Path, str], Report]] = {
    "server": check_server,
    "client": check_client,
    "authorization": check_authorization_server,
}
