"""A running gateway between a client and a fake provider, with its receipts."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes import http_connection
from tests.fakes.gateway import PROVIDER_KEY, Gateway, running_gateway
from tests.fakes.http_connection import HttpResponse
from tests.fakes.receipts import Receipts, open_receipts
from tests.fakes.upstream import FakeUpstream, Script, running_upstream

JSON_TYPE = {"content-type": "application/json"}


@dataclass
class Harness:
    """Hold one gateway for the tests of a module; `renew` clears what the test before left."""

    gateway: Gateway
    upstream: FakeUpstream
    receipts: Receipts

    def renew(self) -> None:
        self.receipts.take()
        self.upstream.forget()
        self.upstream.script = _answer_nothing

    @property
    def authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.gateway.key}"}

    def ask(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> HttpResponse:
        """Send one request with the first key."""
        given = {**self.authorization, **(headers or {})}
        return http_connection.ask(self.gateway.port, method, target, given, body)

    def post(self, target: str, body: Any, headers: dict[str, str] | None = None) -> HttpResponse:
        """Send JSON, given as a value or as bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", target, {**JSON_TYPE, **(headers or {})}, data)

    def answer_with(self, script: Script) -> None:
        self.upstream.script = script


WITHOUT_BREAKERS: dict[str, Any] = {"breaker_failures": 0}
"""Settings of a server that many tests share: the failures of one must not end another's calls."""


@contextmanager
def running_harness(data: Path, **settings: Any) -> Generator[Harness]:
    with (
        running_upstream() as upstream,
        running_gateway(
            data, provider_url=upstream.base_url, **{**WITHOUT_BREAKERS, **settings}
        ) as gateway,
        open_receipts(gateway) as receipts,
    ):
        harness = Harness(gateway, upstream, receipts)
        harness.renew()
        yield harness


def _answer_nothing(asked: Any) -> None:
    asked.answer(b"{}")


@contextmanager
def running_managed_harness(data: Path, **settings: Any) -> Generator[Harness]:
    """Run a gateway whose only credential is the platform's, added as an operator would."""
    with (
        running_upstream() as upstream,
        running_gateway(data, **{**WITHOUT_BREAKERS, **settings}) as gateway,
        open_receipts(gateway) as receipts,
    ):
        added = gateway.run(
            *("credentials", "add", "openai", "--managed", "--api-key-stdin"),
            *("--base-url", upstream.base_url),
            stdin=PROVIDER_KEY,
        )
        assert added.returncode == 0, added.stderr
        harness = Harness(gateway, upstream, receipts)
        harness.renew()
        deadline = time.monotonic() + 5
        while harness.ask("GET", "/v1/models").status != 200 and time.monotonic() < deadline:
            pass
        harness.renew()
        yield harness
