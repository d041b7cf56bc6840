"""`python -m rigs.mcp_conformance [PART] [REVISION]`: the official tests, of all or of one part.

Exit with 1 where a test fails that is not expected to, or passes although it is expected to fail.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rigs.mcp_conformance.official import REVISIONS, Report
from rigs.mcp_conformance.parts import PARTS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", nargs="?", choices=tuple(PARTS))
    parser.add_argument("revision", nargs="?", choices=REVISIONS)
    received = parser.parse_args()
    is_clean = True
    for part in (received.part,) if received.part else PARTS:
        for revision in (received.revision,) if received.revision else REVISIONS:
            with tempfile.TemporaryDirectory() as folder:
                report = PARTS[part](Path(folder), revision)
            show(part, revision, report)
            is_clean = is_clean and report.is_clean
    sys.exit(0 if is_clean else 1)


def show(part: str, revision: str, report: Report) -> None:
    print(f"==> {part}, {revision}: {len(report.passed)} passed", flush=True)
    for name in report.failed:
        print(f"    failed: {name}", flush=True)
    if not report.is_clean:
        print(report.text[-4_000:], flush=True)


main()
