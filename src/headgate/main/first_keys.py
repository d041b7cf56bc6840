"""DIR/first-keys.json: what the first start made, for whoever may read this user's files alone."""

from __future__ import annotations

import json
import os

from headgate.main.application import Application
from headgate.main.data_remains import FIRST_KEYS_FILE


def read_first_keys(application: Application) -> dict[str, str]:
    """What the file has, nothing where it was deleted."""
    try:
        return json.loads((application.settings.data / FIRST_KEYS_FILE).read_text())
    except FileNotFoundError:
        return {}


def write_first_keys(application: Application, keys: dict[str, str]) -> None:
    """All of the file or none of it, on the disk when this returns."""
    path = application.settings.data / FIRST_KEYS_FILE
    made = path.with_suffix(".new")
    made.unlink(missing_ok=True)
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(keys, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)
