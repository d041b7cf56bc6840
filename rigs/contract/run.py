"""One run of schemathesis against a running server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.gateway import Gateway

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
PHASES = "examples,coverage,fuzzing,stateful"
EXCLUDED = (
    "positive_data_acceptance",  # no schema says which models, keys and addresses there are
    "ignored_auth",  # a wrong header beside a good cookie is no login; see test_gate.py
    "use_after_free",  # DELETE revokes a key and archives a project: both stay to be read
    "unsupported_method",  # TRACE with a body is refused by the edge; see test_access.py
)
RUN_SECONDS_MAX = 3600.0


@dataclass(frozen=True)
class Report:
    """Hold whether the run found nothing, and its output."""

    is_clean: bool
    text: str


def run(
    gateway: Gateway,
    headers: dict[str, str],
    *,
    folder: Path,
    phases: str = PHASES,
    examples: int = 20,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
) -> Report:
    """Test the operations of the served document with these headers. `only` and `without` select
    operation ids."""
    options = [part for name, text in headers.items() for part in ("-H", f"{name}: {text}")]
    options += [part for each in only for part in ("--include-operation-id", each)]
    options += [part for each in without for part in ("--exclude-operation-id", each)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
            *("run", f"{gateway.url}/openapi.json", *options),
            *("--phases", phases, "--max-examples", str(examples), "--seed", "1"),
            *("--continue-on-failure", "--no-color", "--checks", "all"),
            *("--exclude-checks", ",".join(EXCLUDED)),
        ],
        cwd=folder,
        env={**os.environ, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS_MAX,
    )
    return Report(done.returncode == 0, done.stdout + done.stderr)
