"""Resolve one set of requirements into its lock file: exact versions, hashes, no addresses."""

from __future__ import annotations

import subprocess
import sys

SOURCES = {
    "run": ["pyproject.toml"],
    "dev": ["pyproject.toml", "--extra", "telemetry", "--group", "dev"],
    "fuzz": ["--group", "fuzz", "--constraint", "requirements/dev.lock"],
    "mutation": ["--group", "mutation", "--constraint", "requirements/dev.lock"],
    "docs": ["--group", "docs", "--constraint", "requirements/dev.lock"],
    "build": ["requirements/build.in"],
    "uv": ["requirements/uv.in"],
}
OPTIONS = [
    *("--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-header", "--no-annotate", "--quiet", "--upgrade"),
]


def main() -> None:
    name = sys.argv[1]
    output = f"requirements/{name}.lock"
    command = [".tools/bin/uv", "pip", "compile", *OPTIONS, *SOURCES[name], "-o", output]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
