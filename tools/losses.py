"""Writes the tables of conversions from their rules: `python tools/losses.py`.

The text above the tables of a page is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from headgate.llm.convert.chat_to_responses import losses as chat_to_responses
from headgate.llm.convert.losses import Handling, Rule
from headgate.llm.convert.messages_to_responses import losses as messages_to_responses
from headgate.llm.convert.responses_to_chat import losses as responses_to_chat

DOCS = Path(__file__).resolve().parent.parent / "docs"
TABLES = "## What is carried, and what is lost\n"
"""Where the written part of a page ends and the generated one begins."""


class Pair(NamedTuple):
    """Name a conversion from one API to another, with its rules."""

    source: str
    target: str
    rules: Mapping[str, Rule]
    answers: Mapping[str, Rule]
    """What becomes of the target's answers."""
    events: Mapping[str, Rule]
    """What becomes of the events of the target's streams."""


PAGES: Mapping[str, tuple[Pair, ...]] = {
    "anthropic.md": (
        Pair(
            "Messages",
            "Responses",
            messages_to_responses.RULES,
            messages_to_responses.ANSWERS,
            messages_to_responses.EVENTS,
        ),
    ),
    "conversions.md": (
        Pair(
            "Chat Completions",
            "Responses",
            chat_to_responses.RULES,
            chat_to_responses.ANSWERS,
            chat_to_responses.EVENTS,
        ),
        Pair(
            "Responses",
            "Chat Completions",
            responses_to_chat.RULES,
            responses_to_chat.ANSWERS,
            responses_to_chat.EVENTS,
        ),
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
    """Return the tables of requests, by what becomes of a field, and the table of answers."""
    parts: list[str] = []
    for handling, meaning in MEANINGS.items():
        rows = {name: rule for name, rule in pair.rules.items() if rule.handling is handling}
        if rows:
            told = meaning.format(target=pair.target)
            parts.append(f"\n**{handling.value.capitalize()}.** {told}\n")
            parts.append(f"\n| {pair.source} | {pair.target} | when, or why |\n|---|---|---|\n")
            parts += [
                f"| {name} | {rule.target or '-'} | {rule.when or '-'} |\n"
                for name, rule in rows.items()
            ]
    note = "`*` stands for any element of a list. What an answer loses is in no header."
    parts += _render_answers(f"**Answers.** {note}", pair, pair.answers)
    parts += _render_answers("**Streams.**", pair, pair.events)
    return parts


def _render_answers(heading: str, pair: Pair, rules: Mapping[str, Rule]) -> list[str]:
    parts = [
        f"\n{heading}\n\n| {pair.target} | {pair.source} | | when, or why |\n|---|---|---|---|\n"
    ]
    for handling in MEANINGS:
        parts += [
            f"| `{name}` | {rule.target or '-'} | {handling.value} | {rule.when or '-'} |\n"
            for name, rule in rules.items()
            if rule.handling is handling
        ]
    return parts


def main() -> None:
    for page in PAGES:
        (DOCS / page).write_text(render(page))


if __name__ == "__main__":
    main()
