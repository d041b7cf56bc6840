"""A real `headgate serve`, started as a user would."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

from headgate.kit.http.guard import REFUSED_PORTS
from tests.fakes.waiting import wait_until

START_SECONDS = 60.0
"""Far more than a start takes, for machines that are busy."""
PROVIDER_KEY = "sk-provider-0123456789abcdefghijklmn"


LOCAL = "127.0.0.1/32"
"""Where the providers of tests listen; `egress_allow` sets something else."""

PORTS = range(12_000, 32_000)
"""Below those that the system hands out: none of them becomes a client's own while it is free."""


_found_ports: set[int] = set()
"""The ports that this process has found: a server may listen on one only later."""


def find_port() -> int:
    """Return a port that nobody listens on, and that nobody else is likely to find."""
    while True:
        port = secrets.choice(PORTS)
        if port in REFUSED_PORTS or port in _found_ports:
            continue
        _found_ports.add(port)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@dataclass
class Gateway:
    """Hold a running server; `keys` is what its first start wrote. Commands get its settings."""

    process: subprocess.Popen[bytes]
    port: int
    data: Path
    keys: dict[str, str]
    log: Path
    environment: dict[str, str]
    tls: ssl.SSLContext | None = None
    _clients: list[openai.OpenAI] = field(default_factory=list[openai.OpenAI])

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def place(self) -> Path | str:
        """Return the database: its file, or the given `database_url`."""
        return self.environment.get("HEADGATE_DATABASE_URL") or self.data / "headgate.db"

    @property
    def key(self) -> str:
        return self.keys["inference_key"]

    def sdk(self, **options: Any) -> openai.OpenAI:
        """Return the official client of this server; `running_gateway` closes it."""
        given: dict[str, Any] = {"api_key": self.key, "base_url": self.base_url, **options}
        client = openai.OpenAI(**given)
        self._clients.append(client)
        return client

    def close_clients(self) -> None:
        while self._clients:
            self._clients.pop().close()

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def run(
        self, *arguments: str, stdin: str = "", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line on this server's data."""
        return subprocess.run(
            [sys.executable, "-m", "headgate.cli", *arguments, "--data", str(self.data)],
            input=stdin,
            env={**(self.environment or os.environ), **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)


def wait_ready(gateway: Gateway) -> None:
    process, log = gateway.process, gateway.log

    def is_ready() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}: {log.read_text()}")
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(
                f"{gateway.url}/health/ready", timeout=1, context=gateway.tls
            ) as answer,
        ):
            return answer.status == 200
        return False

    wait_until(is_ready, START_SECONDS)


def serve_gateway(
    data: Path,
    *,
    provider_url: str | None = None,
    provider_key: str = PROVIDER_KEY,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    variables: dict[str, str] | None = None,
    program: str = "headgate.cli",
    **settings: Any,
) -> Gateway:
    """Start a server that may not be ready yet.

    `settings` are HEADGATE_ variables in lower case, `variables` others by their own names. `tls`
    is how a client trusts it, `program` a module that serves in place of the command line.
    """
    port = port or find_port()
    environment = {name: value for name, value in os.environ.items() if "HEADGATE" not in name}
    environment.pop("OPENAI_API_KEY", None)
    environment.pop("OPENAI_BASE_URL", None)
    if provider_url is not None:
        environment |= {"OPENAI_API_KEY": provider_key, "OPENAI_BASE_URL": provider_url}
    environment |= {"HEADGATE_EGRESS_ALLOW": LOCAL, **(variables or {})}
    environment |= {f"HEADGATE_{name.upper()}": str(value) for name, value in settings.items()}
    data.mkdir(parents=True, exist_ok=True)
    log = data.parent / f"{data.name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", program, "serve"),
                *("--host", "127.0.0.1", "--port", str(port), "--data", str(data)),
            ],
            env=environment,
            stdout=output,
            stderr=output,
        )
    return Gateway(process, port, data, {}, log, environment, tls)


def start_gateway(data: Path, **given: Any) -> Gateway:
    """Start a server and wait until it is ready; arguments as of `serve_gateway`."""
    gateway = serve_gateway(data, **given)
    try:
        wait_ready(gateway)
    except BaseException:
        gateway.kill()
        raise
    # With `database_url`, only the first server of the database makes the keys.
    if (data / "first-keys.json").exists():
        gateway.keys |= json.loads((data / "first-keys.json").read_text())
    return gateway


@contextlib.contextmanager
def running_gateway(data: Path, **given: Any) -> Generator[Gateway]:
    """Run a server for a `with` block; arguments as of `serve_gateway`."""
    gateway = start_gateway(data, **given)
    try:
        yield gateway
    finally:
        gateway.close_clients()
        if gateway.process.poll() is None:
            gateway.kill()
