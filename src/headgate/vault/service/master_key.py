"""The key above all keys: where it comes from, and when a start is refused for its sake."""

from __future__ import annotations

import base64
import binascii
import itertools
import os
import stat
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from headgate.kit import crypto
from headgate.kit.crypto import KEY_BYTES, SealBroken, SecretKey
from headgate.vault import store
from headgate.vault.model import MasterKeyRefused

VARIABLE = "HEADGATE_MASTER_KEY"
DISTINCT_BYTES_MIN = 16
"""32 random bytes have fewer distinct ones once in 10^14 keys."""
_CHECK_PLAINTEXT = b"headgate master key"
_CHECK_BOUND_TO = crypto.encode_fields("headgate.master_key_check.1")
_HELP = "Make one with: openssl rand -base64 32"


class MasterKey(Protocol):
    """Wraps organization keys: the machine's own key, or a key service elsewhere."""

    id: str

    def wrap(self, material: bytes, *, bound_to: bytes) -> bytes:
        """The material, sealed."""
        ...

    def unwrap(self, wrapped: bytes, *, bound_to: bytes) -> bytes:
        """The material again. Raises `SealBroken`."""
        ...


class LocalMasterKey:
    """A master key held in this process's memory."""

    def __init__(self, material: bytes) -> None:
        self._key = SecretKey(material)
        self.id = self._key.id.hex()

    def wrap(self, material: bytes, *, bound_to: bytes) -> bytes:
        """See `MasterKey.wrap`."""
        return crypto.seal(self._key, material, bound_to=bound_to)

    def unwrap(self, wrapped: bytes, *, bound_to: bytes) -> bytes:
        """See `MasterKey.unwrap`."""
        return crypto.open_box(self._key, wrapped, bound_to=bound_to)


def find_master_key(
    connection: sa.Connection, *, text: str | None, path: Path
) -> LocalMasterKey | None:
    """The key from `text` (the environment), else from the file; None for a new installation.

    Only reads. Raises `MasterKeyRefused` for a key that is weak, exposed, or not the one that
    sealed this database, and for none where something is sealed.
    """
    material = parse_master_key(text, VARIABLE) if text else _read_file(path)
    check_values = store.select_master_keys(connection) if store.has_tables(connection) else {}
    if material is None:
        if check_values:
            message = (
                f"The master key is missing: {path} is not there and {VARIABLE} is not set, "
                "but this database holds secrets sealed with it. Bring the key back; "
                "a new one could never open them."
            )
            raise MasterKeyRefused(message)
        return None
    key = LocalMasterKey(material)
    if check_values and not _opens(key, check_values.get(key.id)):
        source = VARIABLE if text else str(path)
        message = (
            f"The master key in {source} is not the one that sealed this database. "
            "Use the right one, or another data directory."
        )
        raise MasterKeyRefused(message)
    return key


def create_master_key(path: Path) -> LocalMasterKey:
    """A new random key, written to a new file that only its owner can read."""
    material = os.urandom(KEY_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(material) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    return LocalMasterKey(material)


def remember_master_key(connection: sa.Connection, key: MasterKey, *, now: float) -> None:
    """Store the check value by which a wrong key is known later; nothing if it is there."""
    if key.id not in store.select_master_keys(connection):
        value = key.wrap(_CHECK_PLAINTEXT, bound_to=_CHECK_BOUND_TO)
        store.insert_master_key(connection, key.id, check_value=value, created_at=now)


def parse_master_key(text: str, source: str) -> bytes:
    """The 32 bytes of a key in base64 or hex. Raises `MasterKeyRefused` for a weak one."""
    material = _decode(text.strip())
    if len(material) != KEY_BYTES:
        message = f"The master key in {source} is not 32 bytes in base64 or 64 hex digits. {_HELP}"
        raise MasterKeyRefused(message)
    steps = {(after - before) % 256 for before, after in itertools.pairwise(material)}
    texty = all(0x20 <= byte < 0x7F for byte in material)
    if len(set(material)) < DISTINCT_BYTES_MIN or len(steps) == 1 or texty:
        message = (
            f"The master key in {source} is an example or can be guessed: "
            f"it must be 32 random bytes. {_HELP}"
        )
        raise MasterKeyRefused(message)
    return material


def _decode(text: str) -> bytes:
    try:
        if len(text) == 2 * KEY_BYTES:
            return bytes.fromhex(text)
        standard = text.replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (ValueError, binascii.Error):
        return b""


def _read_file(path: Path) -> bytes | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
        message = (
            f"The master key file {path} can be read by others "
            f"(mode {stat.S_IMODE(status.st_mode):04o}). Run: chmod 600 {path}"
        )
        raise MasterKeyRefused(message)
    try:
        return parse_master_key(path.read_text("ascii"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise MasterKeyRefused(f"The master key file {path} cannot be read: {error}") from error


def _opens(key: LocalMasterKey, check_value: bytes | None) -> bool:
    if check_value is None:
        return False
    try:
        return key.unwrap(check_value, bound_to=_CHECK_BOUND_TO) == _CHECK_PLAINTEXT
    except SealBroken:
        return False
