"""`python -m rigs.webhooks.receiver`: receive webhooks, and write down each of them.

The path says how to answer: `/ok/NAME` with 204 at once, `/flaky/NAME` with 500 to the first
delivery of three events in ten, `/hang/NAME` never. `GET /count` tells how many came, and the
seconds between the first and the last.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any, TextIO

import uvloop

OK = b"HTTP/1.1 204 No Content\r\n\r\n"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\nbusy"
FAILING_OF_TEN = 3


class Receiver:
    """Hold what was received. With a log, each delivery is one line of it."""

    def __init__(self, log: TextIO | None) -> None:
        self._log = log
        self._failed: set[str] = set()
        self.count = 0
        self.first_at = self.last_at = 0.0

    def receive(self, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        """Return the answer, None for no answer at all."""
        now = time.monotonic()
        self.first_at = self.first_at or now
        self.last_at = now
        self.count += 1
        _, how, name, *_ = f"{path}//".split("/")
        event_id = headers.get("webhook-id", "")
        answer = OK
        if how == "hang":
            answer = None
        elif how == "flaky" and self._fails_first(f"{name}:{event_id}"):
            answer = FAILED
        if self._log is not None:
            signed = {key: value for key, value in headers.items() if key.startswith("webhook-")}
            line = {
                "name": name,
                "headers": signed,
                "body": body.decode(),
                "accepted": answer is OK,
                "at": time.time(),
            }
            self._log.write(json.dumps(line) + "\n")
            self._log.flush()
        return answer

    def _fails_first(self, delivery: str) -> bool:
        if delivery in self._failed:
            return False
        self._failed.add(delivery)
        return hashlib.sha256(delivery.encode()).digest()[0] % 10 < FAILING_OF_TEN

    def describe(self) -> bytes:
        body = json.dumps({"count": self.count, "seconds": self.last_at - self.first_at}).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class ReceiverProtocol(asyncio.Protocol):
    """Parse just the requests that Headgate sends: a head, and a body of a known length."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._data = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            first, *lines = self._data[:end].decode().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
            }
            size = end + 4 + int(headers.get("content-length", "0"))
            if len(self._data) < size:
                return
            body, self._data = self._data[end + 4 : size], self._data[size:]
            method, path, _ = first.split(" ")
            if method == "GET":
                self._transport.write(self._receiver.describe())
            elif (answer := self._receiver.receive(path, headers, body)) is not None:
                self._transport.write(answer)


async def serve(port: int, log: TextIO | None) -> None:
    receiver = Receiver(log)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: ReceiverProtocol(receiver), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m rigs.webhooks.receiver", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    log = None if options.log is None else options.log.open("a")
    uvloop.run(serve(options.port, log))


if __name__ == "__main__":
    main()
