"""Copies of the files of assets, in backups and out of them.

A file never changes, and stays for an hour after its asset was removed. So the files that a copy of
the database names can be copied after it, while the server runs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import sqlalchemy as sa

from headgate.assets.model.asset import StoredObject
from headgate.assets.service import ASSETS, list_objects
from headgate.kit.db import sqlite
from headgate.kit.disk import flush_entries

FOLDER = "assets"
CHUNK_BYTES = 1 << 20


class CopiedAssets(msgspec.Struct, frozen=True, kw_only=True):
    """Count the files of assets in a backup, and those that were missing or damaged."""

    files: int
    bytes: int
    missing: int = 0


def find_objects(connection: sa.Connection) -> list[StoredObject]:
    """Return the files that a database names; none of one of an older schema."""
    if not sa.inspect(connection).has_table(ASSETS.name):
        return []
    return list(list_objects(connection))


def find_in_copy(path: Path) -> list[StoredObject]:
    """Return the files that a copy of an SQLite database names."""
    engine = sqlite.open_copy(path)
    try:
        with engine.connect() as connection:
            return find_objects(connection)
    finally:
        engine.dispose()


def back_up(
    objects: Iterable[StoredObject], source: Path | None, made: Path
) -> CopiedAssets | None:
    """Copy files into the folder of a backup; None where they are in a bucket."""
    return None if source is None else copy_objects(objects, source, made / FOLDER)


def copy_objects(objects: Iterable[StoredObject], source: Path, target: Path) -> CopiedAssets:
    """Copy files that are not in `target` already. What is missing or damaged is counted, and not
    copied. Raise OSError where `target` cannot be written."""
    copied: list[StoredObject] = []
    missing = 0
    for each in objects:
        if is_there(target, each) or copy_object(each, source, target):
            copied.append(each)
        else:
            missing += 1
    flush_entries((target / each.key for each in copied), target)
    size = sum(each.bytes for each in copied)
    return CopiedAssets(files=len(copied), bytes=size, missing=missing)


def is_there(folder: Path, wanted: StoredObject) -> bool:
    try:
        return (folder / wanted.key).stat().st_size == wanted.bytes
    except OSError:
        return False


def copy_object(wanted: StoredObject, source: Path, target: Path) -> bool:
    """Copy one file. Return False where it is missing or has another content."""
    path = target / wanted.key
    fresh = path.with_name(f"{path.name}.part")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with (source / wanted.key).open("rb") as file, fresh.open("wb") as copy:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
    except FileNotFoundError:
        fresh.unlink(missing_ok=True)
        return False
    if digest.hexdigest() != wanted.sha256:
        fresh.unlink()
        return False
    fresh.rename(path)
    return True
