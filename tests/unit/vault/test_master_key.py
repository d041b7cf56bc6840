"""Where the master key is found, and when it is refused."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.kit.db.engine import Database
from headgate.vault.model.keys import InvalidMasterKeyError
from headgate.vault.service import (
    LocalMasterKey,
    create_master_key,
    find_master_key,
    store_master_key,
)
from tests.fakes.vault import VaultHarness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[VaultHarness]:
    harness = VaultHarness(tmp_path / "headgate.db")
    yield harness
    harness.database.close()


def test_right_master_key_is_found_in_file_and_environment(
    harness: VaultHarness, tmp_path: Path
) -> None:
    path = tmp_path / "master.key"
    created = create_master_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    fresh = Database(tmp_path / "fresh.db")
    with fresh.reading() as connection:
        assert find_master_key(connection, text=None, path=tmp_path / "none") is None
        found = find_master_key(connection, text=None, path=path)
    fresh.close()
    assert found is not None
    assert found.id == created.id
    with pytest.raises(FileExistsError):
        create_master_key(path)
    material = os.urandom(32)
    for text in (material.hex(), base64.b64encode(material).decode()):
        with harness.database.reading() as connection, pytest.raises(InvalidMasterKeyError):
            find_master_key(connection, text=text, path=path)
    with harness.database.transaction() as connection:
        store_master_key(connection, LocalMasterKey(material), now=1.0)
        known = find_master_key(connection, text=material.hex(), path=path)
    assert known is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (bytes(32).hex(), "example or can be guessed"),
        (bytes(range(32)).hex(), "example or can be guessed"),
        ((b"\xde\xad\xbe\xef" * 8).hex(), "example or can be guessed"),
        (base64.b64encode(b"0123456789abcdefghijklmnopqrstuv").decode(), "can be guessed"),
        (bytes(range(7, 23)).hex(), "not 32 bytes"),
        (base64.b64encode(bytes(range(7, 38))).decode(), "not 32 bytes"),
        ("changeme", "not 32 bytes"),
        ("!" * 44, "not 32 bytes"),
    ],
)
def test_weak_master_key_is_refused(
    harness: VaultHarness, text: str, reason: str, tmp_path: Path
) -> None:
    with (
        harness.database.reading() as connection,
        pytest.raises(InvalidMasterKeyError, match=reason),
    ):
        find_master_key(connection, text=text, path=tmp_path / "none")


def test_readable_missing_and_wrong_key_files_stop_the_start_without_writes(
    harness: VaultHarness, tmp_path: Path
) -> None:
    harness.add()
    harness.database.close()
    path = tmp_path / "master.key"
    before = harness.database.path.read_bytes()
    with harness.database.reading() as connection:
        with pytest.raises(InvalidMasterKeyError, match="is missing"):
            find_master_key(connection, text=None, path=path)
        create_master_key(path)
        with pytest.raises(InvalidMasterKeyError, match="not the one that sealed"):
            find_master_key(connection, text=None, path=path)
        path.chmod(0o640)
        with pytest.raises(InvalidMasterKeyError, match="chmod 600"):
            find_master_key(connection, text=None, path=path)
        path.chmod(0o600)
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(InvalidMasterKeyError, match="cannot be read"):
            find_master_key(connection, text=None, path=path)
    harness.database.close()
    assert harness.database.path.read_bytes() == before
