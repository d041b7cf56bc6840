"""`python -m rigs.mcp_clients`: start a server, let each client connect, and tell which did."""

from __future__ import annotations

import secrets
import sys
import tempfile
import traceback
from pathlib import Path

import httpx2

from rigs.mcp_clients.checks import CHECKS, OUT_OF_REACH, Visit
from tests.fakes.gateway import Gateway, find_port, running_gateway


def sign_up(gateway: Gateway) -> Visit:
    """Make the owner, who will agree."""
    email, password = "owner@example.com", secrets.token_urlsafe(24)
    body = {"token": gateway.keys["owner_invitation"], "email": email, "name": "Owner"}
    answer = httpx2.post(
        f"{gateway.url}/api/invitations/accept", json={**body, "password": password}
    )
    answer.raise_for_status()
    return Visit(gateway, email, password)


def main() -> None:
    failures = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        running_gateway(
            Path(folder) / "data", simulator="true", simulator_port=find_port()
        ) as gateway,
    ):
        visit = sign_up(gateway)
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
