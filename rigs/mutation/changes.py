"""The change of each mutant, read from the modules that mutmut wrote, which hold them all."""

from __future__ import annotations

import ast
import difflib
import re
from pathlib import Path

Change = tuple[str, str]
"""What is taken out and what is put in, each on one line."""

_NAME = re.compile(r"(.+)__mutmut_(orig|\d+)")


def read_changes(folder: Path) -> dict[str, Change]:
    """Return the change of every mutant below a group's folder, by mutmut's name of it."""
    changes: dict[str, Change] = {}
    for path in sorted(folder.glob("mutants/src/**/*.meta")):
        source = path.with_suffix("")
        parts = source.relative_to(folder / "mutants" / "src").with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        found = compare(source.read_text())
        changes.update({f"{module}.{name}": change for name, change in found.items()})
    return changes


def compare(text: str) -> dict[str, Change]:
    """Return the change of every mutant in one mutated module, by the function's name."""
    lines = text.splitlines()
    versions: dict[str, dict[str, list[str]]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            match = _NAME.fullmatch(node.name)
            if match is not None:
                body = [line.strip() for line in lines[node.lineno : node.end_lineno]]
                versions.setdefault(match[1], {})[match[2]] = body
    return {
        f"{name}__mutmut_{number}": differ(found["orig"], body)
        for name, found in versions.items()
        for number, body in found.items()
        if number != "orig"
    }


def differ(before: list[str], after: list[str]) -> Change:
    """Return the lines that only one of them has."""
    marked = list(difflib.ndiff(before, after))
    removed = " ".join(line[2:] for line in marked if line.startswith("- "))
    added = " ".join(line[2:] for line in marked if line.startswith("+ "))
    return removed, added
