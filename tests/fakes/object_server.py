"""A bucket that speaks as much of S3 as is used: objects are written, read in part, and deleted."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = re.compile("<Key>([^<]+)</Key>")
RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Bucket:
    """Hold the objects by path, and what was asked. `fails` answers everything with 403."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    asked: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    fails: bool = False


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        body = self.read_body()
        if self.begin():
            self.bucket.objects[self.path] = body
            self.answer(200, etag='"1"')

    def do_GET(self) -> None:
        if not self.begin():
            return
        body = self.bucket.objects.get(self.path)
        if body is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        usual = {"etag": '"1"', "last_modified": "Mon, 30 Nov 2026 12:00:00 GMT"}
        wanted = RANGE.fullmatch(self.headers.get("range", ""))
        if wanted is None:
            self.answer(200, body, **usual)
            return
        start, end = int(wanted[1]), int(wanted[2]) + 1
        usual["content_range"] = f"bytes {start}-{end - 1}/{len(body)}"
        self.answer(206, body[start:end], **usual)

    def do_POST(self) -> None:
        """Delete several objects."""
        keys = KEY.findall(self.read_body().decode())
        if not self.begin():
            return
        for key in keys:
            self.bucket.objects.pop(f"{self.path.partition('?')[0]}/{key}", None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def read_body(self) -> bytes:
        return self.rfile.read(int(self.headers["content-length"]))

    def begin(self) -> bool:
        authorization = self.headers.get("authorization", "")
        self.bucket.asked.append((self.command, self.path, authorization))
        if self.bucket.fails:
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        return not self.bucket.fails

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def running_bucket() -> Generator[Bucket]:
    bucket = Bucket()
    handler = type("BucketHandler", (Handler,), {"bucket": bucket})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    bucket.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
