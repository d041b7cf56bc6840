"""The harness of the rigs: a gateway between clients and a recording provider, with money and two
credentials.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec

from rigs.torture.clients import Clients
from rigs.torture.oracle import Answer, Finding, judge_file
from rigs.torture.provider import RecordingProvider
from tests.fakes.gateway import PROVIDER_KEY, Gateway, start_gateway

FUNDED_DOLLARS = 1_000_000


class Result(msgspec.Struct):
    """Hold what a part found: one row of the table; `n` counts its attempts."""

    id: str
    what: str
    n: int
    findings: list[Finding]
    figures: str = ""


class TortureHarness:
    """Hold a data directory, its provider, and the gateway on them, which can be restarted."""

    def __init__(self, data: Path, provider: RecordingProvider, **settings: Any) -> None:
        self.provider = provider
        self.settings: dict[str, Any] = {"test_mode": "true", "access_log": "false", **settings}
        self.gateway: Gateway = start_gateway(data, **self.settings)

    @property
    def database(self) -> Path:
        return self.gateway.data / "headgate.db"

    def prepare(self) -> None:
        """Add the credentials `managed` and `own`, and fund the wallet, as an operator would."""
        for name, *kind in (("managed", "--managed"), ("own",)):
            self._run(
                *("credentials", "add", "openai", "--name", name, *kind, "--api-key-stdin"),
                *("--base-url", self.provider.base_url),
                stdin=PROVIDER_KEY,
            )
        self._run("wallet", "fund", str(FUNDED_DOLLARS), "--reference", "torture")

    def _run(self, *arguments: str, stdin: str = "") -> None:
        done = self.gateway.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr

    def restart(self, **settings: Any) -> float:
        """Start a dead gateway; return the seconds until it is ready. Raise `AssertionError`."""
        started = time.monotonic()
        old = self.gateway
        self.gateway = start_gateway(old.data, port=old.port, **{**self.settings, **settings})
        return time.monotonic() - started

    def make_clients(self, *, count: int, seed: int) -> Clients:
        """Return clients of this gateway, which keep its port after restarts."""
        return Clients(self.gateway.port, self.gateway.key, count=count, seed=seed)

    def stop_and_judge(self, answers: list[Answer]) -> list[Finding]:
        """Stop the gateway in order, and judge."""
        status = self.gateway.stop()
        stopped = [] if status == 0 else [Finding("DB", f"the stop ended with {status}")]
        return stopped + judge_file(self.database, answers, self.provider.charges)

    def stop(self) -> None:
        """Leave no process behind."""
        if self.gateway.process.poll() is None:
            self.gateway.kill()


@contextlib.contextmanager
def running_harness(**settings: Any) -> Generator[TortureHarness]:
    """Run a harness in a directory of its own, with everything that a call needs."""
    with tempfile.TemporaryDirectory(prefix="torture-") as folder, RecordingProvider() as provider:
        harness = TortureHarness(Path(folder) / "data", provider, **settings)
        try:
            harness.prepare()
            yield harness
        finally:
            harness.stop()
