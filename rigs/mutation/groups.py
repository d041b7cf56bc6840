"""The groups: which modules are broken, which tests must notice, which changes change nothing."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Group:
    """Name modules (patterns of paths) and the tests that run against their mutants.

    `deselected` are tests among them that cannot run on mutated code.
    """

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    deselected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Equivalent:
    """Describe mutants that no test can tell from the original, and why.

    `function` is a pattern of dotted names; `removed` and `added` are regular expressions that
    match the changed lines whole.
    """

    function: str
    removed: str
    added: str
    reason: str

    def covers(self, function: str, removed: str, added: str) -> bool:
        return (
            fnmatchcase(function, self.function)
            and re.fullmatch(self.removed, removed) is not None
            and re.fullmatch(self.added, added) is not None
        )


def read_groups() -> tuple[dict[str, Group], int]:
    """Return the groups by name, and the least score in percent."""
    content = tomllib.loads((FOLDER / "groups.toml").read_text())
    groups = {
        name: Group(
            name,
            tuple(fields["modules"]),
            tuple(fields["tests"]),
            tuple(fields.get("deselected", ())),
        )
        for name, fields in content["groups"].items()
    }
    return groups, content["score_percent_min"]


def read_equivalents() -> list[Equivalent]:
    content = tomllib.loads((FOLDER / "equivalent.toml").read_text())
    return [Equivalent(**fields) for fields in content["equivalent"]]


def name_function(mutant: str) -> str:
    """Return `headgate.a.Class.method` for mutmut's `headgate.a.xǁClassǁmethod__mutmut_7`."""
    module, _, mangled = mutant.rpartition("__mutmut_")[0].rpartition(".")
    name = mangled.removeprefix("x_") if mangled.startswith("x_") else mangled[2:]
    return f"{module}.{name.replace('ǁ', '.')}"
