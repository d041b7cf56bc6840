"""The master key of this machine, from the environment or a file."""

from __future__ import annotations

import base64
import binascii
import itertools
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa

from headgate.kit.crypto import KEY_BYTES
from headgate.kit.failpoint import failpoint
from headgate.vault.model.keys import InvalidMasterKeyError, MasterKeyRecord
from headgate.vault.service.master_key.key import LOCAL, LocalMasterKey, list_known
from headgate.vault.service.master_key.source import describe_active, explain_mismatch, is_active

VARIABLE = "HEADGATE_MASTER_KEY"
DISTINCT_BYTES_MIN = 16
"""Among 32 random bytes, fewer distinct values occur once in 10^14 keys."""
_HELP = "Make one with: openssl rand -base64 32"


class LocalSource:
    """Read the key from `text` (the environment), or else from the file (`MasterKeySource`).

    A rotation in place writes the new key to a file beside the old one, and renames it when the
    database is under the new key. A process that starts in between tries both files.
    """

    provider = LOCAL

    def __init__(self, *, text: str | None, path: Path) -> None:
        self._text = text
        self._path = path

    def find(self, connection: sa.Connection) -> LocalMasterKey | None:
        known = list_known(connection)
        refusal: str | None = None
        for source, material in self._read():
            key = LocalMasterKey(material)
            reason = explain_mismatch(key, known, source)
            if reason is None:
                return key
            refusal = refusal or reason
        if known:
            raise InvalidMasterKeyError(refusal or self._describe_missing(known))
        return None

    def create(self) -> LocalMasterKey:
        return create_master_key(self._path)

    def read_material(self, connection: sa.Connection) -> bytes | None:
        """Return the bytes of the key that `find` returns. Raise as `find`."""
        key = self.find(connection)
        for _, material in self._read():
            if key is not None and LocalMasterKey(material).id == key.id:
                return material
        return None

    @property
    def has_key(self) -> bool:
        """Tell whether there is any key, right or wrong. Raise `InvalidMasterKeyError`."""
        return next(self._read(), None) is not None

    @property
    def is_file(self) -> bool:
        """Tell whether the key is in a file, which a rotation can replace."""
        return not self._text

    def stage(self) -> LocalMasterKey:
        """Read or create the next key, in a file beside the present one."""
        return read_or_create(next_of(self._path))

    def commit_staged(self) -> None:
        """Rename the next key's file to the present one, which is kept under a name with its key
        id."""
        upcoming = next_of(self._path)
        if not upcoming.exists():
            return
        material = read_master_key(self._path)
        if material is not None:
            kept = self._path.with_name(f"{self._path.name}.{LocalMasterKey(material).id}")
            kept.unlink(missing_ok=True)
            os.link(self._path, kept)
        failpoint("rotation_files")
        upcoming.replace(self._path)
        _flush_directory(self._path.parent)

    def _read(self) -> Iterator[tuple[str, bytes]]:
        if self._text:
            yield VARIABLE, parse_master_key(self._text, VARIABLE)
            return
        for path in (self._path, next_of(self._path)):
            material = read_master_key(path)
            if material is not None:
                yield str(path), material

    def _describe_missing(self, known: Mapping[str, MasterKeyRecord]) -> str:
        if not any(record.provider == LOCAL for record in known.values() if is_active(record)):
            return describe_active(known)
        return (
            f"The master key is missing: {self._path} does not exist and {VARIABLE} is not set, "
            "but this database holds secrets sealed with it. Restore the key: "
            "a new one cannot open them."
        )


def find_master_key(
    connection: sa.Connection, *, text: str | None, path: Path
) -> LocalMasterKey | None:
    """Return the key of `text` (the environment), or else of the file; None for a new installation.

    Only read. Raise `InvalidMasterKeyError` for a key that is weak, readable by others or not the
    one of this database, and for a missing key if secrets are sealed.
    """
    return LocalSource(text=text, path=path).find(connection)


def next_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")


def read_or_create(path: Path) -> LocalMasterKey:
    """Read the key in a file, or create it. Raise `InvalidMasterKeyError`."""
    material = read_master_key(path)
    return create_master_key(path) if material is None else LocalMasterKey(material)


def create_master_key(path: Path) -> LocalMasterKey:
    """Create a random key in a new file that only its owner can read."""
    material = os.urandom(KEY_BYTES)
    write_master_key(path, material)
    return LocalMasterKey(material)


def write_master_key(path: Path, material: bytes) -> None:
    """Write a key to a new file that only its owner can read, and flush it to disk. Raise
    `FileExistsError` and `InvalidMasterKeyError`."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileNotFoundError as error:
        raise InvalidMasterKeyError(
            f"There is no directory {path.parent} for a master key."
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(material) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        # A partial file would make every later start refuse the key as wrong.
        path.unlink()
        raise
    _flush_directory(path.parent)


def _flush_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def parse_master_key(text: str, source: str) -> bytes:
    """Decode the 32 bytes of a key from base64 or hex. Raise `InvalidMasterKeyError` if weak."""
    material = _decode(text.strip())
    if len(material) != KEY_BYTES:
        message = f"The master key in {source} is not 32 bytes in base64 or 64 hex digits. {_HELP}"
        raise InvalidMasterKeyError(message)
    steps = {(after - before) % 256 for before, after in itertools.pairwise(material)}
    texty = all(0x20 <= byte < 0x7F for byte in material)
    if len(set(material)) < DISTINCT_BYTES_MIN or len(steps) == 1 or texty:
        message = (
            f"The master key in {source} is an example or can be guessed: "
            f"it must be 32 random bytes. {_HELP}"
        )
        raise InvalidMasterKeyError(message)
    return material


def _decode(text: str) -> bytes:
    try:
        if len(text) == 2 * KEY_BYTES:
            return bytes.fromhex(text)
        standard = text.replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (ValueError, binascii.Error):
        return b""


def read_master_key(path: Path) -> bytes | None:
    """Read the key in a file; None without a file. Raise `InvalidMasterKeyError`."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
        message = (
            f"The master key file {path} can be read by others "
            f"(mode {stat.S_IMODE(status.st_mode):04o}). Run: chmod 600 {path}"
        )
        raise InvalidMasterKeyError(message)
    try:
        return parse_master_key(path.read_text("ascii"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidMasterKeyError(
            f"The master key file {path} cannot be read: {error}"
        ) from error
