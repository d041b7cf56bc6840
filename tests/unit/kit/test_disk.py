"""A file that is on the disk is found there: its folders are, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headgate.kit import disk


def test_entries_of_files_and_of_new_folders_are_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []

    def fsync(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path))

    monkeypatch.setattr(os, "fsync", fsync)
    root = tmp_path / "root"
    files = [root / "a" / "b" / "one", root / "a" / "two", root / "a" / "three"]
    (root / "a" / "b").mkdir(parents=True)
    for each in files:
        each.write_bytes(b"x")
    disk.flush(files[0])
    assert flushed == [Path("root/a/b/one")]
    flushed.clear()
    disk.flush_entries(files, root)
    assert flushed == [Path("root/a/b"), Path("root/a"), Path("root")]
