"""A real nginx and a real HAProxy in front of a server, each marking every request that it sends.

The mark is a header that the gateway passes on to the provider. A request without a mark at the
provider was never sent by the proxy: it was smuggled in the body of another.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.gateway import find_port
from tests.fakes.waiting import wait_until

MARK = "x-stainless-mark"
NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_timeout 300ms;
    client_header_timeout 700ms;
    client_body_timeout 700ms;
    underscores_in_headers on;
    ignore_invalid_headers off;
    upstream gateway {{ server 127.0.0.1:{target}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_read_timeout 3s;
            proxy_next_upstream off;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header {mark} $request_id;
        }}
    }}
}}
"""
HAPROXY = """
global
    maxconn 500
defaults
    mode http
    timeout connect 2s
    timeout client 700ms
    timeout http-keep-alive 300ms
    timeout server 3s
    timeout http-request 700ms
    option http-keep-alive
    http-reuse always
    retries 0
frontend front
    bind 127.0.0.1:{port}
    http-request set-header {mark} %[uuid]
    default_backend back
backend back
    server gateway 127.0.0.1:{target}
"""


@dataclass(frozen=True)
class Proxy:
    """Name a proxy program, its configuration, and how it is started."""

    program: str
    package: str
    template: str
    arguments: Callable[[Path], list[str]]


PROXIES = {
    "nginx": Proxy(
        "nginx", "nginx-light", NGINX, lambda file: ["-c", str(file), "-p", str(file.parent)]
    ),
    "haproxy": Proxy("haproxy", "haproxy", HAPROXY, lambda file: ["-f", str(file)]),
}


def find_program(proxy: Proxy) -> str:
    found = shutil.which(proxy.program, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    assert found, (
        f"{proxy.program} is not installed, and the tests need the real one: "
        f"apt-get install {proxy.package} (or run .ci/run, which does)."
    )
    return found


@contextlib.contextmanager
def running_proxy(name: str, folder: Path, target: int) -> Generator[int]:
    """Run a proxy in front of a port of this machine, and yield the proxy's port."""
    proxy = PROXIES[name]
    program = find_program(proxy)
    folder.mkdir()
    port = find_port()
    file = folder / f"{name}.conf"
    file.write_text(proxy.template.format(folder=folder, port=port, target=target, mark=MARK))
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *proxy.arguments(file)], stdout=output, stderr=output, cwd=folder
        )

    def is_listening() -> bool:
        assert process.poll() is None, log.read_text()
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=1),
        ):
            return True
        return False

    try:
        wait_until(is_listening, 10)
        yield port
    finally:
        process.kill()
        process.wait()
