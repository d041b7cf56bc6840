"""Run the official tests, which npm fetches into a folder of their own.

`package-lock.json` names the packages with their hashes. `expected` lists what is known to fail in
each part and revision, with the reason; a test that fails and is not listed fails the run, and so
does one that is listed and passes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2

from rigs.node_sdk import find_program

FOLDER = Path(__file__).parent
CACHE = FOLDER.parents[1] / "build" / "mcp-conformance"
REVISIONS = ("2025-11-25", "2026-07-28")
RUN_SECONDS_MAX = 600.0
CLIENT_MILLISECONDS_MAX = 120_000
"""The clients of all scenarios start at once."""
_LOGIN = re.compile(r"https?://\S+[?&]response_type=code")
_SUMMARY = re.compile(r"^(✓|✗|~|○) (\S+): (\d+) passed, (\d+) failed", re.MULTILINE)


@dataclass(frozen=True)
class Report:
    """Hold the outcome of one run. `failed` are the scenarios of which a check failed, also those
    that are known to fail."""

    is_clean: bool
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    text: str


def install() -> Path:
    """Return the folder of the locked packages, fetched once for each state of the lock file."""
    lock = (FOLDER / "package-lock.json").read_bytes()
    folder = CACHE / hashlib.sha256(lock).hexdigest()[:16]
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        building = Path(made) / "packages"
        building.mkdir()
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(FOLDER / name, building / name)
        npm = [find_program("npm"), "ci", "--ignore-scripts"]
        subprocess.run(npm, cwd=building, env=_build_environment(), check=True, timeout=120)
        building.rename(folder)
    return folder


def check_server(url: str, revision: str, *, scenario: str | None = None) -> Report:
    """Run what a revision demands of a server, or one scenario of it."""
    chosen = ["--requirements", revision]
    if scenario is not None:
        chosen = ["--spec-version", revision, "--scenario", scenario]
    return _run(["server", "--url", url, *chosen, *_expect("server", revision)])


def check_client(command: str, revision: str) -> Report:
    """Run what a revision demands of a client, which is started for each scenario."""
    chosen = ["--requirements", revision]
    patience = ["--timeout", str(CLIENT_MILLISECONDS_MAX)]
    return _run(["client", "--command", command, *patience, *chosen, *_expect("client", revision)])


def check_authorization_server(
    url: str, revision: str, *, client_id: str, port: int, log_in: Callable[[str], str]
) -> Report:
    """Run what there is for an authorization server. `log_in` is the person: it gets the address
    that opens in the browser, and returns the one to which the browser is sent back."""
    chosen = ["--client-id", client_id, "--resource", f"{url}/mcp", "--port", str(port)]
    arguments = ["authorization", "--url", url, "--spec-version", revision, *chosen]
    lines: list[str] = []
    address = ""
    with _start(arguments) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if _LOGIN.match(line):
                address = line.strip()
            if "Callback server started" in line:
                httpx2.get(log_in(address))
    return _read(process.returncode, "".join(lines))


def _expect(part: str, revision: str) -> list[str]:
    return ["--expected-failures", str(FOLDER / "expected" / f"{part}-{revision}.yaml")]


def _run(arguments: list[str]) -> Report:
    with _start(arguments) as process:
        text, _ = process.communicate(timeout=RUN_SECONDS_MAX)
    return _read(process.returncode, text)


def _start(arguments: list[str]) -> subprocess.Popen[str]:
    script = "node_modules/@modelcontextprotocol/conformance/dist/index.js"
    return subprocess.Popen(
        [find_program("node"), script, *arguments],
        cwd=install(),
        env=_build_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _read(status: int, text: str) -> Report:
    found = _SUMMARY.findall(text)
    return Report(
        status == 0,
        tuple(name for _, name, _, failed in found if failed == "0"),
        tuple(name for _, name, _, failed in found if failed != "0"),
        text,
    )


def _build_environment() -> dict[str, str]:
    programs = str(Path(find_program("node")).parent)
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "NO_COLOR": "1"}
