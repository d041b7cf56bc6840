"""Read the files that commands are given."""

from __future__ import annotations

import sys
from pathlib import Path

from headgate.cli.keys import InvalidOptionError

STANDARD_INPUT = Path("-")


def read_bytes(file: Path) -> bytes:
    """Return what is in a file, or on standard input for `-`. Raise `InvalidOptionError`."""
    try:
        return sys.stdin.buffer.read() if file == STANDARD_INPUT else file.read_bytes()
    except OSError as error:
        raise InvalidOptionError(f"Cannot read {file}: {error.strerror}.") from error
