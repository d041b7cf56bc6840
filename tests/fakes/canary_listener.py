"""Listen on every address of this machine, and record who connects."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Generator


class CanaryListener:
    """Listen on every address of this machine.

    `heard` has, for each connection, the address that it reached and the bytes that it sent.
    """

    def __init__(self) -> None:
        first = socket.create_server(("0.0.0.0", 0))
        self.port: int = first.getsockname()[1]
        self.heard: list[tuple[str, bytes]] = []
        self._listeners = [first]
        with contextlib.suppress(OSError):  # a machine without IPv6
            place = ("::", self.port)
            second = socket.create_server(place, family=socket.AF_INET6, dualstack_ipv6=False)
            self._listeners.append(second)
        self._threads = [
            threading.Thread(target=self._listen, args=(listener,), daemon=True)
            for listener in self._listeners
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    came = connection.recv(65536)
                    self.heard.append((str(connection.getsockname()[0]), came))
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
                    )

    def stop(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def running_canary_listener() -> Generator[CanaryListener]:
    canary = CanaryListener()
    try:
        yield canary
    finally:
        canary.stop()
