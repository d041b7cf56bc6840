"""Writes the tables of docs/anthropic.md from the rules of conversion: `python tools/losses.py`.

The text above the tables is kept as it is.
"""

from __future__ import annotations

from pathlib import Path

from headgate.llm.convert.losses import Handling
from headgate.llm.convert.messages_to_responses.losses import RULES

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "anthropic.md"
TABLES = "## What is carried, and what is lost\n"
"""Where the written part of the page ends and the generated one begins."""
MEANINGS = {
    Handling.CARRIED: "It arrives with the same meaning.",
    Handling.APPLIED: "The gateway does it itself, since Responses has nothing like it.",
    Handling.APPROXIMATED: "It arrives with nearly the same meaning, and is reported.",
    Handling.LOST: "Responses has nothing like it, and it is reported.",
    Handling.REFUSED: "A call without it would be another one, so the answer is 400.",
    Handling.IGNORED: "It changes nothing in the answer.",
}


def render() -> str:
    """Return the page with tables of today's rules."""
    written, _, _ = DOCUMENT.read_text().partition(TABLES)
    parts = [written, TABLES]
    for handling, meaning in MEANINGS.items():
        rows = [(name, rule) for name, rule in RULES.items() if rule.handling is handling]
        parts.append(f"\n**{handling.value.capitalize()}.** {meaning}\n")
        parts.append("\n| Messages | Responses | when, or why |\n|---|---|---|\n")
        parts += [
            f"| {name} | {rule.target or '-'} | {rule.when or '-'} |\n" for name, rule in rows
        ]
    return "".join(parts)


def main() -> None:
    DOCUMENT.write_text(render())


if __name__ == "__main__":
    main()
