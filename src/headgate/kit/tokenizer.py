"""Count the tokens of texts offline, by the ranks of `o200k_base` that are shipped with Headgate.

The ranks are OpenAI's (`tokenizer_data/LICENSE`), stored as the lengths of all tokens in the order
of their ranks, a byte each, and then the tokens. Loading them takes about half a second and 60 MB,
so it is done with the first text that is counted.
"""

from __future__ import annotations

import itertools
import lzma
import threading
from pathlib import Path

import tiktoken

RANKS = Path(__file__).parent / "tokenizer_data" / "o200k_base.xz"
RANKS_COUNT = 199_998
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
PATTERN = "|".join(
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+{CONTRACTIONS}",
        rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*{CONTRACTIONS}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
"""How `o200k_base` splits a text before it looks for ranks."""
PIECE_CHARACTERS = 16_384
"""A longer text is counted in pieces: the tokenizer fails on a million spaces, and each piece more
adds a token at most."""


def read_ranks() -> dict[bytes, int]:
    """Read the shipped ranks by their tokens."""
    data = lzma.decompress(RANKS.read_bytes())
    ends = itertools.accumulate(data[:RANKS_COUNT], initial=RANKS_COUNT)
    return {data[start:end]: rank for rank, (start, end) in enumerate(itertools.pairwise(ends))}


class Tokenizer:
    """Count tokens. It may be used by several threads; those that count do not hold the others
    up."""

    def __init__(self) -> None:
        self._encoding: tiktoken.Encoding | None = None
        self._lock = threading.Lock()

    @property
    def is_loaded(self) -> bool:
        return self._encoding is not None

    def count(self, text: str) -> int:
        """Return how many tokens a text has. Names of special tokens count as text."""
        encode = self._load().encode_ordinary
        if len(text) <= PIECE_CHARACTERS:
            return len(encode(text))
        starts = range(0, len(text), PIECE_CHARACTERS)
        return sum(len(encode(text[start : start + PIECE_CHARACTERS])) for start in starts)

    def _load(self) -> tiktoken.Encoding:
        if self._encoding is None:
            with self._lock:
                if self._encoding is None:
                    self._encoding = tiktoken.Encoding(
                        "o200k_base",
                        pat_str=PATTERN,
                        mergeable_ranks=read_ranks(),
                        special_tokens={},
                    )
        return self._encoding
