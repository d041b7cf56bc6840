"""A start on a full disk: alive and unready with the reason, and ready as soon as there is room."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from headgate.data_directory import disk_space
from tests.fakes.gateway import Gateway, find_port, serve_gateway, wait_ready
from tests.fakes.http_connection import HttpResponse, ask
from tests.fakes.waiting import wait_until

DISK_BYTES = 8 << 20
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Path]:
    """Mount a small disk for the test."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("this machine mounts no small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(ballast: Path) -> None:
    """Leave no block free."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


@contextlib.contextmanager
def serving(data: Path) -> Generator[Gateway]:
    gateway = serve_gateway(data, port=find_port(), cors_origins="*")
    try:
        wait_until(lambda: answers(gateway), 20.0)
        yield gateway
    finally:
        if gateway.process.poll() is None:
            gateway.kill()


def answers(gateway: Gateway) -> bool:
    assert gateway.process.poll() is None, gateway.log.read_text()
    with contextlib.suppress(OSError):
        return ask(gateway.port, "GET", "/health/live", {}).status == 200
    return False


def call(gateway: Gateway, path: str) -> HttpResponse:
    return ask(gateway.port, "POST", path, {"content-type": "application/json"}, b"{}")


def test_start_on_a_full_disk_is_alive_and_unready_until_there_is_room(disk: Path) -> None:
    ballast = disk / "ballast"
    fill(ballast)
    with serving(disk / "data") as gateway:
        ready = ask(gateway.port, "GET", "/health/ready", {})
        assert ready.status == 503
        reason = json.loads(ready.body)["reason"]
        assert "is full" in reason
        assert "its database was never set up" in reason
        refused = call(gateway, "/v1/chat/completions")
        assert refused.status == 503
        assert json.loads(refused.body)["error"]["code"] == "storage_unavailable"
        assert dict(refused.headers)["x-should-retry"] == "true"
        assert dict(refused.headers)["access-control-allow-origin"] == "*"
        projects = call(gateway, "/api/projects")
        assert projects.status == 503
        assert dict(projects.headers)["access-control-allow-origin"] == "*"
        assert json.loads(call(gateway, "/v1/messages").body)["type"] == "error"
        ballast.unlink()
        wait_ready(gateway)
        keys = json.loads((gateway.data / "first-keys.json").read_text())
        headers = {"authorization": f"Bearer {keys['inference_key']}"}
        assert ask(gateway.port, "GET", "/v1/models", headers).status != 503
        assert gateway.stop() == 0
    fill(ballast)
    with serving(gateway.data) as again:
        ready = ask(again.port, "GET", "/health/ready", {})
        assert ready.status == 503
        assert "never set up" not in json.loads(ready.body)["reason"]
        assert again.stop() == 0, "a signal ends the waiting in peace"


def test_start_needs_room_for_the_whole_probe(disk: Path) -> None:
    ballast = disk / "ballast"
    fill(ballast)
    assert not disk_space.has_room(disk)
    os.truncate(ballast, ballast.stat().st_size - disk_space.PROBE_BYTES // 2)
    assert not disk_space.has_room(disk)
    ballast.unlink()
    assert disk_space.has_room(disk)
