"""There is one egress client: no other module of the package opens a connection, or could."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "headgate"
SIMULATOR = ROOT / "simulator" / "src"
EGRESS_CLIENT = SOURCE / "kit" / "http"
CLIENTS = {
    *("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "aiohttp", "pycurl"),
    *("openai", "anthropic", "boto3", "botocore", "grpc", "websockets", "websocket", "tornado"),
    *("http.client", "urllib.request", "xmlrpc.client", "ftplib", "smtplib", "poplib", "imaplib"),
    *("nntplib", "telnetlib", "socketserver", "asyncore", "paramiko", "redis", "psycopg", "dns"),
    "obstore",
}
LOW_LEVEL = {"socket", "_socket", "ssl", "subprocess", "pty", "ctypes", "multiprocessing"}
CALLS = {
    *("create_connection", "open_connection", "open_unix_connection", "create_unix_connection"),
    *("create_datagram_endpoint", "sock_connect", "connect_ex", "getaddrinfo", "gethostbyname"),
    *("create_subprocess_exec", "create_subprocess_shell", "popen", "posix_spawn"),
    *("start_tls", "wrap_socket", "urlopen", "urlretrieve", "connect_tcp"),
}
"""Names of functions that reach out; whatever object they are asked of."""
EXCEPTIONS = {
    ("kit/process/listener.py", "socket"): "listens, never connects",
    ("kit/process/listener.py", "getaddrinfo"): "the addresses to listen on",
    ("main/server.py", "socket"): "the type of the listening sockets",
    ("main/waiting.py", "socket"): "the type of the listening sockets",
    ("main/exposure.py", "ssl"): "checks the certificate that the server shows",
    ("headgate_simulator/server.py", "socket"): "listens on this machine, never connects",
    ("headgate_simulator/fault_server/server.py", "socket"): "listens, never connects",
    ("headgate_simulator/fault_server/server.py", "ssl"): "shows a certificate nobody should trust",
    ("headgate_simulator/fault_server/player.py", "socket"): "cuts connections it was asked over",
    ("headgate_simulator/fault_server/ports.py", "socket"): "listens, never connects",
    ("headgate_simulator/fault_server/ports.py", "ssl"): "shows a certificate nobody should trust",
    (
        "kit/process/hardening.py",
        "ctypes",
    ): "asks the kernel to keep this process's memory from others",
    (
        "assets/service/object_store.py",
        "obstore",
    ): "the operator's own folder or bucket, by the setting of its URL",
    ("kit/db/postgresql.py", "psycopg"): "the operator's own database, by the setting of its URL",
    **dict.fromkeys(
        (
            ("capacity/service/valkey_client.py", "redis"),
            ("capacity/service/valkey_pools.py", "redis"),
        ),
        "the operator's own Valkey, by the setting of its URL",
    ),
    ("mcp_servers/service/sdk.py", "httpx2"): "only over the transport that is the egress client",
    ("mcp_servers/service/guarded_transport.py", "httpx2"): "is that transport, over the door",
    ("kit/db/migration.py", "subprocess"): "starts this program anew, with fixed arguments",
    (
        "data_directory/backup_postgresql.py",
        "subprocess",
    ): "pg_dump and pg_restore, on the operator's database",
}
"""Every one with its reason. `telemetry/spans.py` hands the operator's own collector to the
exporter of OpenTelemetry, which is no module of the package."""
DYNAMIC = {"import_module", "__import__"}


def find_ways_out(path: Path) -> set[str]:
    """Modules and calls by which this file could open a connection."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else ""
            name = called.id if isinstance(called, ast.Name) else name
            found |= {name} & CALLS
            if name in DYNAMIC:
                names = [str(a.value) for a in node.args if isinstance(a, ast.Constant)]
        for name in names:
            parts = name.split(".")
            prefixes = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
            found |= prefixes & (CLIENTS | LOW_LEVEL)
    return found


FILES = {
    str(path.relative_to(root)): path
    for root in (SOURCE, SIMULATOR)
    for path in root.rglob("*.py")
    if EGRESS_CLIENT not in path.parents
}


@pytest.mark.parametrize("place", FILES)
def test_module_has_no_way_out_but_the_door(place: str) -> None:
    path = FILES[place]
    assert {way for way in find_ways_out(path) if (place, way) not in EXCEPTIONS} == set()


def test_every_exception_is_still_needed() -> None:
    for place, way in EXCEPTIONS:
        assert way in find_ways_out(FILES[place]), (place, way)


def test_only_the_dialer_connects_and_only_the_lookup_resolves() -> None:
    ways = {path.name: find_ways_out(path) & CALLS for path in EGRESS_CLIENT.glob("*.py")}
    assert {name: found for name, found in ways.items() if found} == {
        "dial.py": {"create_connection"},
        "lookup.py": {"getaddrinfo"},
    }


@pytest.mark.parametrize(
    "text",
    [
        "import httpx2",
        "import urllib.request",
        "from urllib import request",
        "from http import client",
        "import importlib\nimportlib.import_module('requests')",
        "import socket",
        "import asyncio\nasync def f(): await asyncio.open_connection('a', 1)",
        "async def f(loop): await loop.create_connection(None, 'a', 1)",
        "import os\nos.popen('curl a')",
        "def f():\n    import smtplib",
    ],
)
def test_each_other_way_would_be_found(text: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)
    assert find_ways_out(path)
