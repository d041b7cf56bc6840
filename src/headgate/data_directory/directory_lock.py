"""The lock on a data directory: which process holds it, and with which settings it serves.

SQLite belongs to one server: a second one would settle the open holds of the first. The lock is the
kernel's (`flock`), so it ends with its process. The file stays, and its content is valid only while
a process holds the lock. Servers that share a PostgreSQL hold it together.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Generator
from pathlib import Path

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.settings import Settings

DATABASE_FILE = "headgate.db"
LOCK_FILE = f"{DATABASE_FILE}.lock"
SHARED_LOCK_FILE = "server.lock"
SERVE = "headgate serve"
WAIT_SECONDS = 1.0
"""How long to wait for a process that only looks at the lock, or a command that ends."""
RETRY_SECONDS = 0.02
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class UnusableDataDirectoryError(HeadgateError):
    """The data directory cannot be made, read or written.

    Give it to the user who runs Headgate, or choose another with `--data`.
    """

    kind = Kind.INVALID
    code = "data_unusable"


class DataDirectoryInUseError(HeadgateError):
    """Another process uses this database exclusively.

    Stop the process that the message names, or use PostgreSQL for several servers.
    """

    kind = Kind.CONFLICT
    code = "data_in_use"


class LockHolder(msgspec.Struct, frozen=True, kw_only=True):
    """Describe who holds a lock. The settings are those by which a server knows and reaches
    providers, keeps files, and is reached; they hold no secrets."""

    pid: int
    command: str
    started_at: float
    simulator: bool = False
    simulator_port: int = 0
    catalog_dir: str | None = None
    openai_base_url: str | None = None
    egress_allow: tuple[str, ...] = ()
    egress_ca_file: str | None = None
    assets_url: str | None = None
    assets_endpoint: str | None = None
    host: str | None = None
    port: int | None = None
    public_url: str | None = None


class DirectoryLock:
    """Lock one database until `release` or the end of the process."""

    def __init__(self, path: Path, *, shared: bool) -> None:
        self.path = path
        self.is_shared = shared
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._descriptor: int | None = None
        self._folder: int | None = None
        """The folder of a file that is locked alone is locked as well: the file may be deleted
        meanwhile."""

    def take(self) -> bool:
        """Return whether the lock was taken. Raise OSError where no file can be created."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, self._kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        # Somebody may have deleted the file in between, and a third process locked a new one.
        if self.is_in_place and self._take_folder():
            return True
        self.release()
        return False

    def _take_folder(self) -> bool:
        """Return whether the folder was locked. Where no folder can be locked, as on some network
        file systems, the file alone counts."""
        if self.is_shared:
            return True
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, self._kind | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            return not isinstance(error, BlockingIOError)
        self._folder = descriptor
        return True

    @property
    def is_in_place(self) -> bool:
        """Return whether the locked file is the one that others would find."""
        if self._descriptor is None:
            return False
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._descriptor))

    def write(self, holder: LockHolder) -> None:
        """Write who holds the lock; a full disk is ignored."""
        assert self._descriptor is not None, "the lock is not held"
        text = msgspec.json.encode(holder) + b"\n"
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text, 0)

    def release(self) -> None:
        for descriptor in (self._descriptor, self._folder):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._folder = None


def create_lock(settings: Settings) -> DirectoryLock:
    """Create the lock of the database, not held yet, beside the file that links lead to."""
    if settings.database_url is not None:
        return DirectoryLock(settings.data / SHARED_LOCK_FILE, shared=True)
    database = (settings.data / DATABASE_FILE).resolve()
    return DirectoryLock(database.with_name(LOCK_FILE), shared=False)


@contextlib.contextmanager
def hold(settings: Settings, command: str) -> Generator[DirectoryLock]:
    """Hold the lock for the block.

    A command that shares it leaves what a server wrote into it. Raise `DataDirectoryInUseError`,
    whose message names the holder, and `UnusableDataDirectoryError`.
    """
    make_directory(settings.data)
    lock = create_lock(settings)
    deadline, pause = time.monotonic() + WAIT_SECONDS, threading.Event()
    while not _take(lock):
        if time.monotonic() > deadline:
            raise DataDirectoryInUseError(describe_busy(settings, find_holder(settings)))
        pause.wait(RETRY_SECONDS)
    if not lock.is_shared or command == SERVE:
        lock.write(describe(settings, command))
    try:
        yield lock
    finally:
        lock.release()


def find_holder(settings: Settings) -> LockHolder | None:
    """Return who holds the lock now; None where nobody does, or it is not known."""
    path = create_lock(settings).path
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return msgspec.json.decode(file.read(), type=LockHolder)
    except (OSError, msgspec.DecodeError):
        pass
    return None


def find_server(settings: Settings) -> LockHolder | None:
    """Return the server that uses the database on this machine, if any."""
    holder = find_holder(settings)
    return holder if holder is not None and holder.command == SERVE else None


def adopt(settings: Settings, server: LockHolder | None) -> Settings:
    """Return the settings of a command beside a server.

    They name and reach providers, keep files and name addresses as the server does, except where
    the command's own environment differs.
    """
    if server is None:
        return settings
    return msgspec.structs.replace(
        settings,
        simulator=server.simulator,
        simulator_port=server.simulator_port if server.simulator else settings.simulator_port,
        catalog_dir=settings.catalog_dir or _read_path(server.catalog_dir),
        openai_base_url=settings.openai_base_url or server.openai_base_url,
        egress_allow=tuple(dict.fromkeys((*settings.egress_allow, *server.egress_allow))),
        egress_ca_file=settings.egress_ca_file or server.egress_ca_file,
        assets_url=settings.assets_url or server.assets_url,
        aws_endpoint_url_s3=settings.aws_endpoint_url_s3 or server.assets_endpoint,
        host=server.host or settings.host,
        port=server.port or settings.port,
        public_url=settings.public_url or server.public_url,
    )


def describe_busy(settings: Settings, holder: LockHolder | None) -> str:
    who = "another process" if holder is None else f"`{holder.command}` (process {holder.pid})"
    return (
        f"The database in {settings.data} is in use by {who}, and an SQLite database serves one "
        f"process at a time. Stop that process first{_name_kill(holder)}, or choose another "
        "directory with --data; several servers share a PostgreSQL (docs/postgresql.md)."
    )


def make_directory(path: Path) -> None:
    """Create the data directory if it is missing. Raise `UnusableDataDirectoryError`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        message = f"{path} cannot be created, or is not a directory: {error.strerror}."
        raise UnusableDataDirectoryError(f"{message} Choose another with --data.") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise UnusableDataDirectoryError(
            f"{path} cannot be written; give it to the user who runs Headgate."
        )


def _take(lock: DirectoryLock) -> bool:
    try:
        return lock.take()
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        message = f"{lock.path} cannot be locked: {error.strerror}."
        raise UnusableDataDirectoryError(
            f"{message} Give it to the user who runs Headgate."
        ) from error


def describe(settings: Settings, command: str) -> LockHolder:
    return LockHolder(
        pid=os.getpid(),
        command=command,
        started_at=time.time(),
        simulator=settings.is_simulated,
        simulator_port=settings.simulator_port,
        catalog_dir=settings.catalog_dir and str(settings.catalog_dir.absolute()),
        openai_base_url=_strip_user(settings.openai_base_url),
        egress_allow=settings.egress_allow,
        egress_ca_file=settings.egress_ca_file,
        assets_url=_name_place(settings.assets_url),
        assets_endpoint=_strip_user(settings.aws_endpoint_url_s3),
        host=settings.host,
        port=settings.port,
        public_url=_strip_user(settings.public_url),
    )


def _name_place(url: str | None) -> str | None:
    """Return where files are kept, also for a command that runs in another folder."""
    return url if url is None or "://" in url else str(Path(url).absolute())


def _strip_user(url: str | None) -> str | None:
    """Remove user and password, which an address that is refused later may have."""
    if url is None:
        return None
    scheme, mark, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{mark}{place.rpartition('@')[2]}{slash}{path}"


def _read_path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _name_kill(holder: LockHolder | None) -> str:
    return "" if holder is None else f" (kill {holder.pid})"
