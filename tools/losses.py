"""Writes the tables of conversions from their rules: `python tools/losses.py`.

The text above the tables of a page is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from headgate.llm.convert.chat_to_responses.losses import RULES as CHAT_TO_RESPONSES
from headgate.llm.convert.losses import Handling, Rule
from headgate.llm.convert.messages_to_responses.losses import RULES as MESSAGES_TO_RESPONSES
from headgate.llm.convert.responses_to_chat.losses import RULES as RESPONSES_TO_CHAT

DOCS = Path(__file__).resolve().parent.parent / "docs"
TABLES = "## What is carried, and what is lost\n"
"""Where the written part of a page ends and the generated one begins."""


class Pair(NamedTuple):
    """Name a conversion from one API to another, with its rules."""

    source: str
    target: str
    rules: Mapping[str, Rule]


PAGES: Mapping[str, tuple[Pair, ...]] = {
    "anthropic.md": (Pair("Messages", "Responses", MESSAGES_TO_RESPONSES),),
    "conversions.md": (
        Pair("Chat Completions", "Responses", CHAT_TO_RESPONSES),
        Pair("Responses", "Chat Completions", RESPONSES_TO_CHAT),
    ),
}
"""The pages with their tables. A page with several pairs has a heading for each."""
MEANINGS = {
    Handling.CARRIED: "It arrives with the same meaning.",
    Handling.APPLIED: "The gateway does it itself, since {target} has nothing like it.",
    Handling.APPROXIMATED: "It arrives with nearly the same meaning, and is reported.",
    Handling.LOST: "{target} has nothing like it, and it is reported.",
    Handling.REFUSED: "A call without it would be another one, so the answer is 400.",
    Handling.IGNORED: "It changes nothing in the answer.",
}


def render(page: str) -> str:
    """Return a page with tables of today's rules."""
    written, _, _ = (DOCS / page).read_text().partition(TABLES)
    pairs = PAGES[page]
    parts = [written, TABLES]
    for pair in pairs:
        if len(pairs) > 1 or page != "anthropic.md":
            parts.append(f"\n### {pair.source} to {pair.target}\n")
        parts += _render_pair(pair)
    return "".join(parts)


def _render_pair(pair: Pair) -> list[str]:
    parts: list[str] = []
    for handling, meaning in MEANINGS.items():
        rows = [(name, rule) for name, rule in pair.rules.items() if rule.handling is handling]
        if not rows:
            continue
        told = meaning.format(target=pair.target)
        parts.append(f"\n**{handling.value.capitalize()}.** {told}\n")
        parts.append(f"\n| {pair.source} | {pair.target} | when, or why |\n|---|---|---|\n")
        parts += [
            f"| {name} | {rule.target or '-'} | {rule.when or '-'} |\n" for name, rule in rows
        ]
    return parts


def main() -> None:
    for page in PAGES:
        (DOCS / page).write_text(render(page))


if __name__ == "__main__":
    main()
