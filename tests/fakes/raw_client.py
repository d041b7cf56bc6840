"""An HTTP client on a plain socket, which sees every byte as it arrives."""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any

TIMEOUT_SECONDS = 10.0


class RawClient:
    """Speak HTTP on one connection to a server."""

    def __init__(self, port: int, key: str = "", *, receive_bytes: int = 0) -> None:
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(TIMEOUT_SECONDS)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.reader = self.socket.makefile("rb")
        self.key = key
        self.headers: dict[str, str] = {}

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.reader.close()
        self.socket.close()

    def reset(self) -> None:
        """Reset the connection."""
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(
        self,
        path: str = "/v1/chat/completions",
        body: bytes | dict[str, Any] | None = None,
        *,
        method: str = "",
        version: str = "1.1",
        **headers: str,
    ) -> None:
        """Send one request; `headers` have underscores for their dashes."""
        self.send(self.render(path, body, method=method, version=version, **headers))

    def render(
        self,
        path: str,
        body: bytes | dict[str, Any] | None,
        *,
        method: str = "",
        version: str = "1.1",
        **headers: str,
    ) -> bytes:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        method = method or ("GET" if data is None else "POST")
        fields = {"host": "127.0.0.1", "authorization": f"Bearer {self.key}"}
        if data is not None:
            fields |= {"content-type": "application/json", "content-length": str(len(data))}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/{version}", *(f"{k}: {v}" for k, v in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode() + (data or b"")

    def read_head(self) -> int:
        """Read a head into `headers`, and return the status."""
        status = self.reader.readline().split(b" ", 2)[1]
        self.headers = {}
        while line := self.reader.readline().rstrip(b"\r\n"):
            name, _, value = line.partition(b": ")
            self.headers[name.decode().lower()] = value.decode()
        return int(status)

    def read_piece(self) -> bytes:
        """Return the next chunk of a chunked body, empty at its end. Raises ValueError if it breaks
        off.
        """
        size = int(self.reader.readline(), 16)
        data = self.reader.read(size)
        self.reader.readline()
        return data

    def read_body(self) -> bytes:
        """Return the rest of the response. Raises ValueError if it breaks off."""
        if self.headers.get("transfer-encoding") == "chunked":
            pieces: list[bytes] = []
            while piece := self.read_piece():
                pieces.append(piece)
            return b"".join(pieces)
        if "content-length" not in self.headers:
            return self.reader.read()
        body = self.reader.read(int(self.headers["content-length"]))
        if len(body) < int(self.headers["content-length"]):
            raise ValueError("the body broke off")
        return body

    def read_answer(self) -> tuple[int, bytes]:
        """Return status and body of a whole response."""
        return self.read_head(), self.read_body()

    def is_closed(self) -> bool:
        """Return whether the server closes the connection without sending anything more."""
        try:
            return self.reader.read(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True
