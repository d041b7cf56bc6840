"""Measure how the time of a check grows with its input: more than linear is a denial of service."""

from __future__ import annotations

import time

from rigs.fuzz.targets import Target

SMALL_BYTES = 1024
LARGE_BYTES = 1 << 17
"""Past the size from which a reader looks closer (64 KiB for JSON): a step is no growth."""
MEASURABLE_SECONDS = 0.002
FACTOR = 8
TRIES_MAX = 4
RATIO_MAX = 4.0 * FACTOR
"""Linear work takes `FACTOR` times as long, quadratic work the square of it; between lies noise."""


def measure_growth(target: Target, word: bytes) -> float:
    """Return how many times longer an input takes that is `FACTOR` times larger: `word`, repeated.

    The shortest of a few tries counts, since a busy machine only makes a try longer.
    """
    size = SMALL_BYTES
    while size < LARGE_BYTES and time_check(target, build(target, word, size)) < MEASURABLE_SECONDS:
        size *= 2
    small, large = build(target, word, size), build(target, word, size * FACTOR)
    best_small = best_large = float("inf")
    for _ in range(TRIES_MAX):
        best_small = min(best_small, time_check(target, small))
        best_large = min(best_large, time_check(target, large))
        if best_large <= best_small * RATIO_MAX:
            break
    return best_large / best_small


def build(target: Target, word: bytes, size: int) -> bytes:
    """Return an input of about so many bytes.

    It is the first word of the language, then one word over and over, without a proper end.
    """
    head = b"\0" if target.ordered else target.words[0]
    return head + word * (size // len(word))


def time_check(target: Target, data: bytes) -> float:
    """Return the seconds of CPU time of this thread."""
    started = time.thread_time()
    target.check(data)
    return max(time.thread_time() - started, 1e-5)
