"""The tokenizer: one token is up to four characters (code points) of a text.

A stream of tokens joined is therefore exactly the text, and has its count.
"""

from __future__ import annotations

TOKEN_CHARACTERS = 4


def count(text: str) -> int:
    return -(-len(text) // TOKEN_CHARACTERS)


def split(text: str) -> list[str]:
    return [
        text[start : start + TOKEN_CHARACTERS] for start in range(0, len(text), TOKEN_CHARACTERS)
    ]


def cut(text: str, tokens_max: int) -> str:
    """Return the first `tokens_max` tokens of the text."""
    return text[: tokens_max * TOKEN_CHARACTERS]
