"""Write files to the disk, so that a power failure takes none of them back."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def flush(path: Path) -> None:
    """Write a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_entries(files: Iterable[Path], root: Path) -> None:
    """Write the entries of files to the disk, and those of their folders below `root`, which may be
    new as well."""
    folders = {each for file in files for each in file.parents if each.is_relative_to(root)}
    for folder in sorted(folders, reverse=True):
        flush(folder)
