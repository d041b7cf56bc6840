"""Run Anthropic's official SDK for Node against a gateway.

`package-lock.json` names the packages with their hashes; npm fetches them into a folder of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SECONDS_MAX = 120.0


def install(folder: Path) -> None:
    """Install the SDK into a folder, with the script that uses it."""
    for name in ("package.json", "package-lock.json", ".npmrc", "messages.mjs"):
        shutil.copy(FOLDER / name, folder / name)
    _run([find_program("npm"), "ci", "--ignore-scripts"], folder, {})


def run_script(folder: Path, base_url: str, key: str) -> dict[str, Any]:
    """Run the script, and return what it found."""
    gateway = {"GATEWAY_URL": base_url.removesuffix("/v1"), "GATEWAY_KEY": key}
    return json.loads(_run([find_program("node"), "messages.mjs"], folder, gateway))


def find_program(name: str) -> str:
    return str(Path(sysconfig.get_path("scripts")) / name)


def _run(command: list[str], folder: Path, variables: dict[str, str]) -> str:
    scripts = sysconfig.get_path("scripts")
    environment = {**os.environ, **variables, "PATH": f"{scripts}:{os.environ['PATH']}"}
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX
    )
    if finished.returncode:
        raise RuntimeError(f"{command[-1]} failed: {finished.stderr[-2_000:]}")
    return finished.stdout
