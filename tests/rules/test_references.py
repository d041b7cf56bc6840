"""What code and documents refer to is in this repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAWS = 10
FEATURES = (ROOT / "docs" / "features.md").read_text()
OUTSIDE = re.compile(
    r"\b(?:faults|guarantees|systems|vocabulary|style|design|dependencies)\.md\b|shared/(?:spec|seeds|cases)"
    r"|\bissue \d+(?:\.\w+)?\b|\bthreat \d+\b|\bfault plan\b",
    re.IGNORECASE,
)
IDS = re.compile(r"\(((?!S256)(?:[ACDFGKLMNRSTUV]\d{1,3}(?:, )?)+)\)")
DECISION = re.compile(r"\bdecisions? (\d+)\b")
LAW = re.compile(r"\blaws? (\d+)\b")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#]+)")
PLACE = re.compile(r"`((?:docs|tests|src|rigs|bench|tools)/[\w./-]+\.(?:py|md|toml|json|txt))\b")


def list_texts() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "Makefile", ".ci/run"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    own = Path(__file__).relative_to(ROOT).as_posix()
    return [each for each in listing.stdout.splitlines() if each != own]


def find_faults(path: str, text: str) -> list[str]:
    decisions = {each.name[:4] for each in (ROOT / "docs/decisions").glob("*.md")}
    faults = [f"{each} is nowhere in this repository" for each in OUTSIDE.findall(text)]
    for each in IDS.findall(text):
        faults += [
            f"no feature {part}"
            for part in each.split(", ")
            if not re.search(rf"\b{part}\b", FEATURES)
        ]
    for number in DECISION.findall(text):
        if number.zfill(4) not in decisions:
            faults.append(f"there is no decision {number}")
    faults += [f"there is no law {each}" for each in LAW.findall(text) if not 0 < int(each) <= LAWS]
    if path.endswith(".md"):
        here = (ROOT / path).parent
        faults += [f"no file {each}" for each in LINK.findall(text) if not (here / each).exists()]
    if path != "CHANGELOG.md":
        faults += [f"no file {each}" for each in PLACE.findall(text) if not (ROOT / each).exists()]
    return faults


def test_every_reference_resolves() -> None:
    texts = {path: (ROOT / path).read_text() for path in list_texts()}
    assert {path: found for path, text in texts.items() if (found := find_faults(path, text))} == {}


def test_reference_that_does_not_resolve_is_found() -> None:
    text = "issue 8.3, faults.md, law 11, decision 9999, (A77), `docs/nowhere.md`, [x](nowhere.md)"
    assert len(find_faults("docs/x.md", text)) == 7
