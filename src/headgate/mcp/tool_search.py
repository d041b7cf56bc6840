"""Find tools by words, for agents whose list does not show them all."""

from __future__ import annotations

import re
from collections.abc import Sequence

from headgate.connectors.model.tool import ToolDefinition

WORD = re.compile(r"[a-z0-9]+")
NAME_WEIGHT, TITLE_WEIGHT, TEXT_WEIGHT = 8, 4, 1
WORDS_MAX, QUERY_CHARACTERS_MAX = 16, 1_000


def search(tools: Sequence[ToolDefinition], query: str, limit: int) -> list[ToolDefinition]:
    """Return the tools that fit the words best, at most `limit`; the first ones without words. Of
    tools that fit equally well, the order stays."""
    words = list(dict.fromkeys(WORD.findall(query[:QUERY_CHARACTERS_MAX].lower())))[:WORDS_MAX]
    if not words:
        return list(tools[:limit])
    scored = [(_score(tool, words), tool) for tool in tools]
    found = sorted((each for each in scored if each[0]), key=lambda each: -each[0])
    return [tool for _, tool in found[:limit]]


def _score(tool: ToolDefinition, words: Sequence[str]) -> int:
    weighed = (
        (f"{tool.name} {tool.source}".lower(), NAME_WEIGHT),
        (tool.title.lower(), TITLE_WEIGHT),
        (tool.description.lower(), TEXT_WEIGHT),
    )
    return sum(weight for word in words for text, weight in weighed if word in text)
