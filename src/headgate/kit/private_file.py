"""Read and write a JSON file that only this user may read."""

from __future__ import annotations

import json
import os
from pathlib import Path


def read_private_json(path: Path) -> dict[str, str]:
    """Return the texts in the file, none where the file does not exist."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}


def write_private_json(path: Path, texts: dict[str, str]) -> None:
    """Replace the file with mode 0600: all of it or nothing, on the disk when this returns."""
    made = path.with_suffix(".new")
    made.unlink(missing_ok=True)
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(texts, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)
