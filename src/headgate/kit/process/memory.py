"""Find the memory available to this process: the machine's, or its control group's limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def find_memory_bytes(root: Path = ROOT) -> int:
    """Return the least of the machine's memory and the limits of the control groups (v1, v2)."""
    return min(_read_machine(root), *_list_group_limits(root))


def _read_machine(root: Path) -> int:
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemTotal":
                return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _list_group_limits(root: Path) -> Iterator[int]:
    """Return every limit from this process's group up to the root. A container sees its own group
    as the root of the file system."""
    groups = root / "sys/fs/cgroup"
    yield from _read_limits(groups, "memory.max", _find_group(root, ""))
    yield from _read_limits(groups / "memory", "memory.limit_in_bytes", _find_group(root, "memory"))
    yield 1 << 62


def _find_group(root: Path, controller: str) -> str:
    """Return the path of this process's group; `controller` is empty for version 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path.strip("/")
    return ""


def _read_limits(groups: Path, name: str, group: str) -> Iterator[int]:
    folder = groups / group
    for each in (folder, *folder.parents):
        if groups != each and groups not in each.parents:
            return
        try:
            yield int((each / name).read_text())
        except (OSError, ValueError):  # no limit is the word `max`, or no file
            continue
