"""The tokenizer: one token is up to four characters (code points) of a text.

Pieces of a text and its count therefore agree exactly, and a stream of pieces is its buffer.
"""

from __future__ import annotations

TOKEN_CHARACTERS = 4


def count(text: str) -> int:
    """How many tokens the text has."""
    return -(-len(text) // TOKEN_CHARACTERS)


def split(text: str) -> list[str]:
    """The tokens of the text; joined they are the text."""
    return [
        text[start : start + TOKEN_CHARACTERS] for start in range(0, len(text), TOKEN_CHARACTERS)
    ]


def cut(text: str, tokens_max: int) -> str:
    """The first `tokens_max` tokens of the text."""
    return text[: tokens_max * TOKEN_CHARACTERS]
