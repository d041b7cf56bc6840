"""Tokens are those of OpenAI's `o200k_base`, and no text makes counting fail or take long."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest

from headgate.kit.tokenizer import RANKS_COUNT, Tokenizer, read_ranks

PUBLISHED = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
"""The SHA-256 of `o200k_base.tiktoken` as OpenAI publishes it, which tiktoken checks as well."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer()


def test_shipped_ranks_are_those_that_openai_publishes() -> None:
    ranks = read_ranks()
    lines = [b"%b %d\n" % (base64.b64encode(token), rank) for token, rank in ranks.items()]
    assert len(ranks) == RANKS_COUNT
    assert hashlib.sha256(b"".join(lines)).hexdigest() == PUBLISHED


def test_ranks_are_loaded_with_the_first_text_only(tokenizer: Tokenizer) -> None:
    assert not tokenizer.is_loaded
    assert tokenizer.count("") == 0
    assert tokenizer.is_loaded


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("hello world", 2),
        ("antidisestablishmentarianism", 6),
        ("2 + 2 = 4", 7),
        ("お誕生日おめでとう", 8),
        ("<|endoftext|>", 7),
    ],
)
def test_tokens_are_counted_as_openai_documents(
    tokenizer: Tokenizer, text: str, tokens: int
) -> None:
    """The first four are examples of OpenAI's cookbook."""
    assert tokenizer.count(text) == tokens


@pytest.mark.parametrize("unit", [" ", "a", "^", "\n", "漢字", "\ud800"])
def test_no_text_takes_long(tokenizer: Tokenizer, unit: str) -> None:
    """Measured in processor time and with much room: 200,000 characters take about 0.1 s."""
    begun = time.process_time()
    assert 0 < tokenizer.count(unit * (200_000 // len(unit))) <= 600_000
    assert time.process_time() - begun < 5.0
