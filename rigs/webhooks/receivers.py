"""Start a receiver in a process of its own, and read what it wrote down."""

from __future__ import annotations

import contextlib
import datetime
import json
import subprocess
import sys
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec
from standardwebhooks.webhooks import Webhook

from tests.fakes.gateway import find_port
from tests.fakes.waiting import wait_until

TOLERANCE_SECONDS = 300.0


class Received(msgspec.Struct):
    """Hold one delivery as the receiver saw it."""

    name: str
    headers: dict[str, str]
    body: str
    accepted: bool
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> Any:
        """Return the event; None if the official library signs it otherwise, or if it was signed at
        another time than it arrived. (The library itself would compare with the time now.)"""
        signed_at = int(self.headers["webhook-timestamp"])
        moment = datetime.datetime.fromtimestamp(signed_at, datetime.UTC)
        signature = Webhook(secret).sign(self.id, moment, self.body)
        is_signed = signature in self.headers["webhook-signature"].split(" ")
        if not is_signed or abs(self.at - signed_at) > TOLERANCE_SECONDS:
            return None
        return json.loads(self.body)


class ReceiverProcess:
    def __init__(self, port: int, log: Path | None) -> None:
        self.port = port
        self._log = log

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def read_count(self) -> tuple[int, float]:
        """Return how many deliveries came, and the seconds between the first and the last."""
        with urllib.request.urlopen(self.url("/count"), timeout=10) as answer:
            fields = json.load(answer)
        return fields["count"], fields["seconds"]

    def read(self) -> Iterator[Received]:
        assert self._log is not None, "the receiver writes no log"
        with self._log.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    yield msgspec.json.decode(line, type=Received)


@contextlib.contextmanager
def running_receiver(log: Path | None = None) -> Generator[ReceiverProcess]:
    port = find_port()
    command = [sys.executable, "-m", "rigs.webhooks.receiver", "--port", str(port)]
    if log is not None:
        command += ["--log", str(log)]
    process = subprocess.Popen(command)
    receiver = ReceiverProcess(port, log)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return receiver.read_count()[0] == 0
        return False

    try:
        wait_until(answers, 10.0)
        yield receiver
    finally:
        process.kill()
        process.wait()
