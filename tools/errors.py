"""Writes docs/errors.md from the error classes: `python tools/errors.py`.

The docstring of each class with a `code` has two paragraphs: what the error means, and what to do
about it. The introduction of the page is kept as it is.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import headgate
from headgate.kit.errors import HeadgateError

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "errors.md"
STARTUP_ROOMS = ("cli", "data_directory", "main", "settings", "telemetry")
STARTUP_ERRORS = {
    "InvalidTrustedProxiesError",
    "InvalidCorsOriginError",
    "InvalidFailpointError",
    "InvalidDatabaseUrlError",
    "DriverNotInstalledError",
    "UnusableSchemaError",
    "InvalidCatalogError",
    "InvalidConnectorError",
    "InvalidMasterKeyError",
    "AddressInUseError",
}
"""Raised at the start of a server or by a command although they stand in a room of the server."""
TABLES = "## Answers\n"
"""Where the written introduction of the page ends and the generated part begins."""


def list_errors() -> list[type[HeadgateError]]:
    """Return every class of error with a code of its own, in all modules of the package."""
    for module in pkgutil.walk_packages(headgate.__path__, "headgate."):
        if not module.name.startswith(("headgate.migrations", "headgate.cli.__main__")):
            importlib.import_module(module.name)
    return sorted(set(_walk(HeadgateError)), key=lambda error: (error.code, error.__name__))


def _walk(base: type[HeadgateError]) -> Iterator[type[HeadgateError]]:
    for error in base.__subclasses__():
        if error.__module__.startswith("headgate.") and "code" in vars(error):
            yield error
        yield from _walk(error)


def split_docstring(error: type[HeadgateError]) -> tuple[str, str]:
    """Return what an error means and what to do. Raises `ValueError` where either is missing."""
    meaning, _, advice = inspect.cleandoc(vars(error).get("__doc__") or "").partition("\n\n")
    if not meaning or not advice or "\n\n" in advice:
        raise ValueError(f"{error.__name__} needs two paragraphs: what it means, what to do")
    return " ".join(meaning.split()), " ".join(advice.split())


def is_startup(error: type[HeadgateError]) -> bool:
    """Return whether no answer of a running server carries this error."""
    room = error.__module__.split(".")[1]
    return room in STARTUP_ROOMS or error.__name__ in STARTUP_ERRORS


def build_page() -> str:
    """Return docs/errors.md."""
    errors = list_errors()
    answers = [error for error in errors if not is_startup(error)]
    startup = [error for error in errors if is_startup(error)]
    introduction = DOCUMENT.read_text().partition(TABLES)[0]
    lines = [introduction + TABLES, "| code | status | meaning | what to do |", "|---|---|---|---|"]
    lines += [
        f"| `{error.code}` | {error.kind.value} | {' | '.join(split_docstring(error))} |"
        for error in answers
    ]
    lines += [
        "",
        "## At the start and in commands",
        "",
        "| code | meaning | what to do |",
        "|---|---|---|",
    ]
    lines += [f"| `{error.code}` | {' | '.join(split_docstring(error))} |" for error in startup]
    return "\n".join([*lines, ""])


def main() -> None:
    DOCUMENT.write_text(build_page())


if __name__ == "__main__":
    main()
