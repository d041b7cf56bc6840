"""Takes the viewer of the API reference from npm, pinned and checked: `python tools/viewer.py`.

The files are committed, so that a build needs no network. To update it, change version and
integrity to those that `npm view swagger-ui-dist@VERSION dist.integrity` prints.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "5.35.0"
INTEGRITY = (
    "sha512-U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8"
    "CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ=="
)
PACKAGE = f"swagger-ui-dist@{VERSION}"
FILES = (
    "swagger-ui-bundle.js",
    "swagger-ui-bundle.js.LICENSE.txt",
    "swagger-ui.css",
    "LICENSE",
    "NOTICE",
)
FOLDER = Path(__file__).resolve().parent.parent / "src" / "headgate" / "api" / "reference_page"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True)
        [file] = Path(folder).glob("*.tgz")
        take_files(file)


def take_files(file: Path) -> None:
    """Copy the files of the viewer out of the package. Exit if its integrity is another one."""
    found = "sha512-" + base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
    if found != INTEGRITY:
        raise SystemExit(f"{PACKAGE} has the integrity {found}, not {INTEGRITY}.")
    with tarfile.open(file) as tar:
        for name in FILES:
            member = tar.extractfile(f"package/{name}")
            assert member is not None, f"{name} is no file"
            # A source map is not shipped, so browsers must not look for it.
            lines = member.read().splitlines(keepends=True)
            kept = [line for line in lines if b"sourceMappingURL=" not in line[:80]]
            (FOLDER / name).write_bytes(b"".join(kept))


if __name__ == "__main__":
    main()
