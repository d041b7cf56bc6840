"""`python -m rigs.fuzz.worker target [libFuzzer options]`: run atheris on one target in this
process.

Atheris must instrument modules before they are imported, so nothing is imported at the top.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def main() -> None:
    """Fuzz until the time is over (exit status 0) or a check raises (77)."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["headgate"]):
        targets = importlib.import_module("rigs.fuzz.targets")
    check = targets.TARGETS[sys.argv[1]].check
    atheris.Setup([sys.argv[0], *sys.argv[2:]], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
