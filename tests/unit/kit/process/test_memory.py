from __future__ import annotations

from pathlib import Path

import pytest

from headgate.kit.process.memory import find_memory_bytes

MEBIBYTE = 1 << 20


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({}, 2048),
        ({"sys__fs__cgroup__memory_DOT_max": "max\n"}, 2048),
        ({"sys__fs__cgroup__memory_DOT_max": str(512 * MEBIBYTE)}, 512),
        (
            {
                "proc__self__cgroup": "0::/a/b\n",
                "sys__fs__cgroup__a__memory_DOT_max": str(256 * MEBIBYTE),
                "sys__fs__cgroup__a__b__memory_DOT_max": "max\n",
            },
            256,
        ),
        (
            {
                "proc__self__cgroup": "7:cpu,memory:/c\n1:name=systemd:/\n",
                "sys__fs__cgroup__memory__c__memory_DOT_limit_in_bytes": str(128 * MEBIBYTE),
            },
            128,
        ),
        ({"sys__fs__cgroup__memory__memory_DOT_limit_in_bytes": str(1 << 60)}, 2048),
    ],
)
def test_memory_is_the_machines_or_what_a_group_leaves(
    tmp_path: Path, groups: dict[str, str], expected: int
) -> None:
    root = write(tmp_path, proc__meminfo="MemTotal:        2097152 kB\nMemFree: 1 kB\n", **groups)
    assert find_memory_bytes(root) == expected * MEBIBYTE


def test_machine_that_tells_nothing_is_asked_otherwise(tmp_path: Path) -> None:
    assert find_memory_bytes(tmp_path) > MEBIBYTE
