"""A folder in which mutmut may change the code, and its run there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rigs.mutation.groups import Group

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".mutation"
LINKED = ("src", "tests", "docs", "bench", "rigs", "tools")
COPIED = ("tests", "docs", "bench", "rigs", "tools")
SURVIVED_CODES = (0, 5, 33)


def lay_out(group: Group, *, again: bool) -> Path:
    """Make the folder of a group: links to this tree and mutmut's settings.

    With `again` the mutants that were killed stay killed; only the survivors are tried again.
    """
    folder = PLACE / group.name
    if again:
        _forget_survivors(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(ROOT / name, target_is_directory=True)
    settings = {
        "source_paths": ["src/"],
        "only_mutate": list(group.modules),
        "pytest_add_cli_args_test_selection": list(group.tests),
        "pytest_add_cli_args": [f"--deselect={test}" for test in group.deselected],
        "also_copy": list(COPIED),
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    project = (ROOT / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text("\n".join([project, "[tool.mutmut]", *lines, ""]))
    return folder


def run(folder: Path, *, log: Path) -> None:
    """Try every mutant, one process at a time. Raise `CalledProcessError` when mutmut fails."""
    with log.open("wb") as output:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(
            [sys.executable, "-m", "mutmut", "run", "--max-children", "1"],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=True,
        )


def read_codes(folder: Path) -> dict[str, int | None]:
    """Return the exit code of the tests for each mutant; None where it was not tried."""
    codes: dict[str, int | None] = {}
    for path in sorted(folder.glob("mutants/src/**/*.meta")):
        codes.update(json.loads(path.read_text())["exit_code_by_key"])
    return codes


def _forget_survivors(folder: Path) -> None:
    for path in folder.glob("mutants/src/**/*.meta"):
        meta = json.loads(path.read_text())
        codes = meta["exit_code_by_key"]
        meta["exit_code_by_key"] = {
            name: None if code in SURVIVED_CODES else code for name, code in codes.items()
        }
        path.write_text(json.dumps(meta, indent=4))
