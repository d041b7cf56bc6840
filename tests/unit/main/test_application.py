from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import headgate
from headgate.kit.db.schema import METADATA

LIST_TABLES = """
import headgate.main.application
from headgate.kit.db.schema import METADATA
print(*METADATA.tables)
"""


def test_every_command_knows_every_table() -> None:
    """The first command makes the database, and may have imported little."""
    for module in pkgutil.walk_packages(headgate.__path__, "headgate."):
        if ".migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    listed = subprocess.run(
        [sys.executable, "-c", LIST_TABLES], capture_output=True, text=True, check=True
    )
    assert set(listed.stdout.split()) == set(METADATA.tables)
