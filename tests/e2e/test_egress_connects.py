"""Every connection that a running server opens, as the kernel sees it, is one that the guard
allowed.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.canary_listener import running_canary_listener
from tests.fakes.gateway import PROVIDER_KEY, Gateway, running_gateway
from tests.fakes.http_connection import open_http_connection
from tests.fakes.upstream import FakeUpstream, running_upstream
from tests.fakes.waiting import wait_until

STRACE = shutil.which("strace")
CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt-5.4-mini","messages":[]}'
PLACE = re.compile(
    r"connect\(\d+, \{sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?"
    r"(?:inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)\""
)


@contextmanager
def traced(gateway: Gateway, path: Path) -> Generator[None]:
    """Record every connect of the process and its threads while it runs."""
    assert STRACE is not None
    tracer = subprocess.Popen(
        [
            *(STRACE, "-f", "-q", "-e", "trace=connect,sendto,sendmsg", "-e", "signal=none"),
            *("-s", "0", "-o", str(path), "-p", str(gateway.process.pid)),
        ],
        stderr=subprocess.PIPE,
    )
    try:
        status = Path(f"/proc/{gateway.process.pid}/status")
        wait_until(
            lambda: f"TracerPid:\t{tracer.pid}" in status.read_text() or tracer.poll() is not None,
            10,
        )
        if tracer.poll() is not None:
            pytest.skip("this machine does not let one process trace another")
        yield
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        if tracer.stderr is not None:
            tracer.stderr.close()


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_every_connection_leads_to_a_place_that_the_guard_allowed(tmp_path: Path) -> None:
    with (
        running_upstream() as upstream,
        running_canary_listener() as canary,
        running_gateway(
            tmp_path / "data",
            provider_url=upstream.base_url,
            egress_allow=f"http://127.0.0.1:{canary.port}",
            retries_max=1,
        ) as gateway,
    ):
        add(gateway, "beside", f"http://127.0.0.1:{canary.port}/v1")
        with traced(gateway, tmp_path / "trace"):
            use(gateway, upstream)
        trace = (tmp_path / "trace").read_text()
        places = {(host, int(port)) for port, host in PLACE.findall(trace)}
        assert places == {("127.0.0.1", upstream.port), ("127.0.0.1", canary.port)}
        assert len(re.findall(r"connect\(.*AF_INET", trace)) == len(PLACE.findall(trace))
        assert "sin_port=htons(53)" not in trace
        assert len(upstream.received) > 10


def add(gateway: Gateway, name: str, base_url: str) -> None:
    added = gateway.run(
        *("credentials", "add", "openai", "--api-key-stdin", "--name", name),
        *("--base-url", base_url),
        stdin=PROVIDER_KEY,
    )
    assert added.returncode == 0, added.stderr


def use(gateway: Gateway, upstream: FakeUpstream) -> None:
    """Make calls of every kind: reused and new connections, retries, redirects, two credentials."""
    key = {"authorization": f"Bearer {gateway.key}"}
    away = {"location": "http://127.0.0.2:9/", "connection": "close"}
    with open_http_connection(gateway.port) as connection:
        for status in (200, 302, 307, 500, 429, 200):
            upstream.script = lambda received, s=status: received.answer(
                b"{}", status=s, headers=away
            )
            connection.ask("POST", CHAT, key, BODY)
            connection.ask("GET", "/v1/models", key)
            connection.ask("GET", "/metrics")
        upstream.script = lambda received: received.close()
        connection.ask("POST", CHAT, key, BODY)
        beside = {**key, "x-headgate-credential": "beside"}

        def reaches() -> bool:
            return connection.ask("POST", CHAT, beside, BODY).status == 200

        wait_until(reaches, 10)
