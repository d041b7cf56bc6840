"""A raw connection to a server: a test writes every byte, and reads answers one by one."""

from __future__ import annotations

import http.client
import io
import json
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast


@dataclass
class HttpResponse:
    """Hold an answer as it arrived; the names of `fields` are in lower case."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.fields)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]


class _Reader(io.BufferedReader):
    """Stay open after each answer: the buffer may hold the beginning of the next one."""

    def close(self) -> None:
        pass


class HttpConnection:
    """Hold one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._reader = _Reader(socket.SocketIO(connection, "r"))

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the reader, as `http.client` expects of a socket."""
        return self._reader

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> HttpResponse:
        """Send a whole request, and return its answer."""
        self.send(encode_head(method, target, headers, body) + (body or b""))
        return self.read(method)

    def read(self, method: str = "GET") -> HttpResponse:
        """Read the next answer."""
        answer = http.client.HTTPResponse(cast("Any", self), method=method)
        answer.begin()
        fields = [(name.lower(), value) for name, value in answer.getheaders()]
        return HttpResponse(answer.status, fields, answer.read())

    def is_closed(self) -> bool:
        """Return whether the server closes the connection without a further byte."""
        try:
            return self._reader.read(1) == b""
        except ConnectionError:
            return True


def check_error(answered: HttpResponse, status: int, code: str | None, *, source: str) -> None:
    """Check the shape of an error as the official SDKs read it, and its source."""
    assert answered.status == status
    assert answered.headers["content-type"] == "application/json"
    assert answered.headers["x-headgate-error-source"] == source
    assert answered.headers["x-request-id"]
    assert set(answered.json) == {"error"}
    assert set(answered.error) - {"denial"} == {"message", "type", "param", "code"}
    assert answered.error["message"]
    assert answered.error["code"] == code
    assert len([name for name, _ in answered.fields if name == "content-length"]) == 1


def encode_head(
    method: str, target: str, headers: dict[str, str] | None, body: bytes | None = None
) -> bytes:
    given = {"host": "gateway", **(headers or {})}
    if body is not None and "transfer-encoding" not in given:
        given.setdefault("content-length", str(len(body)))
    lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in given.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


@contextmanager
def open_http_connection(port: int, *, timeout_seconds: float = 10.0) -> Generator[HttpConnection]:
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds) as connection:
        yield HttpConnection(connection)


def ask(
    port: int,
    method: str,
    target: str,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> HttpResponse:
    """Send one request on a connection of its own."""
    with open_http_connection(port) as opened:
        return opened.ask(method, target, headers, body)
