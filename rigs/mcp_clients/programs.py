"""Fetch the clients, and run them with a home and variables of their own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from rigs.node_sdk import find_program

FOLDER = Path(__file__).parent
CACHE = FOLDER.parents[1] / "build" / "mcp-clients"
INSTALL_SECONDS = 600.0
RUN_SECONDS = 60.0
NODE = str(Path(find_program("node")).parent)
CLAUDE = "@anthropic-ai/claude-code-linux-x64/claude"
"""The program itself; the package's own script would be linked to it by a hook of npm."""


def install() -> Path:
    """Return the folder of the locked packages, fetched once for each state of the lock file."""
    lock = (FOLDER / "package-lock.json").read_bytes()
    folder = CACHE / hashlib.sha256(lock).hexdigest()[:16]
    if not (folder / "node_modules").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(FOLDER / name, folder / name)
        npm = [find_program("npm"), "ci", "--ignore-scripts"]
        variables = {"PATH": f"{NODE}:/usr/bin:/bin", "HOME": str(Path.home())}
        subprocess.run(npm, cwd=folder, env=variables, check=True, timeout=INSTALL_SECONDS)
    return folder / "node_modules"


class Programs:
    """Run the clients of one user. `home` has their settings and what they remember."""

    def __init__(self, home: Path) -> None:
        self.modules = install()
        self.home = home
        self.home.mkdir(parents=True, exist_ok=True)
        self.variables = {
            "HOME": str(home),
            "PATH": f"{self.modules / '.bin'}:{NODE}:/usr/bin:/bin",
            "TERM": "dumb",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }

    def run(self, *command: str, **variables: str) -> str:
        """Return everything that a program wrote."""
        done = subprocess.run(
            command,
            cwd=self.home,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )
        return done.stdout + done.stderr

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Start a program whose input and output are pipes, with its errors in the output."""
        return subprocess.Popen(
            command,
            cwd=self.home,
            env={**self.variables, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
