"""Writes the generated pages of the documentation: `python tools/reference.py`.

docs/cli.md from the command line, docs/metrics.md from the metrics, docs/operations.md from
docs/openapi.json. docs/errors.md has a tool of its own (tools/errors.py), and so has
docs/openapi.json (tools/openapi.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from headgate.cli.program import COMMANDS, CommandGroup
from headgate.telemetry.metric_help import COUNTERS, HELP, HISTOGRAMS

DOCS = Path(__file__).resolve().parent.parent / "docs"
METHODS = ("get", "post", "put", "patch", "delete")


def build_cli() -> str:
    """Return docs/cli.md: every command with its arguments and options."""
    group: Any = CommandGroup(name="headgate")
    context = click.Context(group, info_name="headgate")
    lines = [
        "# Command line",
        "",
        "`headgate COMMAND --help` shows the same. Settings are environment variables:",
        "[configuration](configuration.md).",
    ]
    for name in COMMANDS:
        lines += _describe_command(group.get_command(context, name), f"headgate {name}", 2)
    return "\n".join([*lines, ""])


def _describe_command(command: Any, path: str, level: int) -> Iterator[str]:
    yield from ("", f"{'#' * level} {path}", "", _flatten(command.help))
    parameters = [each for each in command.params if each.name != "help"]
    if parameters:
        yield from ("", "| argument or option | meaning |", "|---|---|")
        for each in parameters:
            is_argument = each.param_type_name == "argument"
            names = each.name.upper() if is_argument else ", ".join(each.opts + each.secondary_opts)
            yield f"| `{names}` | {_flatten(getattr(each, 'help', None))} |"
    for name, child in getattr(command, "commands", {}).items():
        yield from _describe_command(child, f"{path} {name}", level + 1)


def build_metrics() -> str:
    """Return docs/metrics.md: every metric with its type, labels and meaning."""
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` answers in the text format of Prometheus. The metrics of the process",
        "(`process_...`: memory, CPU time, descriptors) have their conventional names.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for name, text in sorted(HELP.items()):
        suffix = "_total" if name in COUNTERS else ""
        kind = "counter" if suffix else "histogram" if name in HISTOGRAMS else "gauge"
        labels = ", ".join(f"`{label}`" for label in COUNTERS.get(name, ()))
        lines.append(f"| `headgate_{name}{suffix}` | {kind} | {labels} | {text} |")
    return "\n".join([*lines, ""])


def build_operations() -> str:
    """Return docs/operations.md: every operation of the platform API."""
    document = json.loads((DOCS / "openapi.json").read_text())
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method in METHODS:
            if operation := methods.get(method):
                lines = _describe_operation(f"{method.upper()} {path}", operation)
                by_tag.setdefault(operation.get("tags", ["other"])[0], []).extend(lines)
    lines = [
        "# Operations of the platform API",
        "",
        "Every operation below `/api`, with its description and answers. A running server has the",
        "same with all fields and errors at `/docs`; [the document](openapi.json) is OpenAPI 3.1.",
        "[The platform API](api.md) explains authorization, pages, versions and idempotency, and",
        "[errors](errors.md) lists every code.",
    ]
    for tag, described in sorted(by_tag.items()):
        lines += ["", f"## {tag}", *described]
    return "\n".join([*lines, ""])


def _describe_operation(title: str, operation: dict[str, Any]) -> list[str]:
    lines = ["", f"### `{title}`", "", f"**{operation['summary']}**"]
    if text := operation.get("description"):
        lines += ["", _flatten(text)]
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            lines += ["", f"Answers {status}: {_flatten(answer.get('description'))}"]
    return lines


def _flatten(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


PAGES = {"cli.md": build_cli, "metrics.md": build_metrics, "operations.md": build_operations}


def main() -> None:
    for name, build in PAGES.items():
        (DOCS / name).write_text(build())


if __name__ == "__main__":
    main()
