"""A real `headgate serve`, started as a user would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.deadline import wait_until

START_SECONDS = 20.0
PROVIDER_KEY = "sk-provider-0123456789abcdefghijklmn"


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@dataclass
class Gateway:
    """A running server; `keys` is what its first start wrote."""

    process: subprocess.Popen[bytes]
    port: int
    data: Path
    keys: dict[str, str]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def key(self) -> str:
        return self.keys["inference_key"]

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command of the command line, on this server's data."""
        return subprocess.run(
            [sys.executable, "-m", "headgate.cli", *arguments, "--data", str(self.data)],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)


def wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def is_ready() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}: {log.read_text()}")
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{url}/health/ready", timeout=1) as answer,
        ):
            return answer.status == 200
        return False

    wait_until(is_ready, START_SECONDS)


def start_gateway(
    data: Path, *, provider_url: str | None = None, port: int = 0, **settings: Any
) -> Gateway:
    """`settings` are HEADGATE_ variables in lower case."""
    port = port or find_port()
    environment = {name: value for name, value in os.environ.items() if "HEADGATE" not in name}
    environment.pop("OPENAI_API_KEY", None)
    environment.pop("OPENAI_BASE_URL", None)
    if provider_url is not None:
        environment |= {"OPENAI_API_KEY": PROVIDER_KEY, "OPENAI_BASE_URL": provider_url}
    environment |= {f"HEADGATE_{name.upper()}": str(value) for name, value in settings.items()}
    data.mkdir(parents=True, exist_ok=True)
    log = data.parent / f"{data.name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "headgate.cli", "serve"),
                *("--host", "127.0.0.1", "--port", str(port), "--data", str(data)),
            ],
            env=environment,
            stdout=output,
            stderr=output,
        )
    wait_ready(f"http://127.0.0.1:{port}", process, log)
    keys = json.loads((data / "first-keys.json").read_text())
    return Gateway(process, port, data, keys, log)


@contextlib.contextmanager
def running_gateway(
    data: Path, *, provider_url: str | None = None, **settings: Any
) -> Generator[Gateway]:
    gateway = start_gateway(data, provider_url=provider_url, **settings)
    try:
        yield gateway
    finally:
        if gateway.process.poll() is None:
            gateway.kill()
