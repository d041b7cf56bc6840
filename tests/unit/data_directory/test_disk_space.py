"""A start waits for room on the disk, and for nothing else."""

from __future__ import annotations

import resource
from pathlib import Path

from headgate.data_directory.disk_space import PROBE_BYTES, explain_lack_of_room
from headgate.settings import Settings


def test_what_is_no_lack_of_room_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(data=tmp_path / "file")
    assert explain_lack_of_room(settings, NotADirectoryError("no directory")) is None


def test_file_that_may_not_be_so_large_is_no_lack_of_room(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PROBE_BYTES // 2, before[1]))
    try:
        assert explain_lack_of_room(Settings(data=tmp_path), OSError("too large")) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
