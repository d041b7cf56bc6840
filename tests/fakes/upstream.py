"""An upstream server whose every byte a test decides: plain sockets, one thread per connection."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from typing import Any


@dataclass
class ReceivedRequest:
    """Hold a request as it arrived, and answer it."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes
    connection: socket.socket
    reader: BufferedReader

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers by lower-case name; of a repeated one the last."""
        return dict(self.fields)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def send_head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        self.send("\r\n".join(lines).encode())

    def send_chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def send_end(self) -> None:
        self.send(b"0\r\n\r\n")

    def answer(
        self, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        given = {"content-type": "application/json", **(headers or {})}
        self.send_head(status, {**given, "content-length": str(len(body))})
        self.send(body)

    def begin_stream(self, headers: dict[str, str] | None = None) -> None:
        given = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        self.send_head(200, {**given, **(headers or {})})

    def wait_closed(self, timeout_seconds: float) -> bool:
        """Return whether the peer closes its side in time."""
        self.connection.settimeout(timeout_seconds)
        try:
            return self.connection.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def reset(self) -> None:
        """Cut the connection with a RST."""
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()

    def close(self) -> None:
        self.reader.close()
        self.connection.close()


Script = Callable[[ReceivedRequest], None]


class FakeUpstream:
    """Answer every request by `script`, and keep all in `received`. `before_body` is called between
    the head and the body of a request.
    """

    def __init__(self) -> None:
        self.received: list[ReceivedRequest] = []
        self.script: Script = lambda received: received.answer(b"{}")
        self.before_body: Callable[[], object] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self) -> None:
        """Keep only what is received from now on."""
        self.received = []

    def stop(self) -> None:
        """Wake all threads; each then closes the connection that it serves."""
        _wake(self._listener)
        for connection in list(self._open):
            _wake(connection)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                self._listener.close()
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        try:
            while (received := self._read_request(reader, connection)) is not None:
                self.script(received)
                connection.settimeout(None)
        except (OSError, ValueError):
            pass
        finally:
            self._open.discard(connection)
            reader.close()
            connection.close()

    def _read_request(self, reader: Any, connection: socket.socket) -> ReceivedRequest | None:
        line = reader.readline().decode()
        if not line:
            return None
        # A request that began for one test is none of the next one's, however late it is whole.
        kept = self.received
        method, target, _ = line.split(" ", 2)
        fields: list[tuple[str, str]] = []
        while (field_line := reader.readline().decode().rstrip("\r\n")) != "":
            name, _, value = field_line.partition(":")
            fields.append((name.lower(), value.strip()))
        if self.before_body is not None:
            self.before_body()
        body = _read_body(reader, dict(fields))
        received = ReceivedRequest(method, target, fields, body, connection, reader)
        kept.append(received)
        return received


@contextmanager
def running_upstream() -> Generator[FakeUpstream]:
    upstream = FakeUpstream()
    try:
        yield upstream
    finally:
        upstream.stop()


def _wake(waiting: socket.socket) -> None:
    """Shut the socket down: closing it would not wake a thread that waits on it."""
    with suppress(OSError):
        waiting.shutdown(socket.SHUT_RDWR)


def _read_body(reader: BufferedReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return reader.read(int(headers.get("content-length", "0")))
    body = b""
    while (size := int(reader.readline(), 16)) > 0:
        body += reader.read(size)
        reader.readline()
    reader.readline()
    return body
