"""Histograms of latencies that can be added up, for percentiles over any range.

The classes grow by 4 %, so a percentile is at most 2 % beside the exact one. A histogram is one
integer with a lane of 40 bits for each class: adding two of them is one addition.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator

GROWTH = 1.04
FIRST_MICROSECONDS = 100
LAST_MICROSECONDS = 7_200_000_000
LANE_BITS = 40
"""The width of a class's count: a trillion calls do not overflow it."""

_LANE_BYTES = LANE_BITS // 8
_SPARSE_MAX = 16
"""The most latencies of which each class is stored by its number."""
_CLASSES = math.ceil(math.log(LAST_MICROSECONDS / FIRST_MICROSECONDS) / math.log(GROWTH)) + 1
_ENDS = [round(FIRST_MICROSECONDS * GROWTH**number) for number in range(_CLASSES)]
"""The greatest latency of each class; longer ones count in the last class."""


def make_histogram(microseconds: int) -> int:
    """Return the histogram of one latency."""
    return 1 << (min(bisect_left(_ENDS, microseconds), _CLASSES - 1) * LANE_BITS)


def find_percentile(histogram: int, share: float) -> int | None:
    """Return the nearest-rank percentile in microseconds; None for an empty histogram."""
    counts = list(_list_counts(histogram))
    rank = math.ceil(sum(count for _, count in counts) * share)
    for number, count in counts:
        rank -= count
        if rank <= 0:
            return round(_ENDS[number] * 2 / (1 + GROWTH))
    return None


def encode_histogram(histogram: int, count: int) -> bytes:
    """Return the stored form of a histogram of `count` latencies: few of them as pairs of class
    and number, else all classes from the first to the last."""
    if not histogram:
        return b""
    if count <= _SPARSE_MAX:
        pairs = [
            number.to_bytes(2, "little") + seen.to_bytes(1, "little")
            for number, seen in _list_counts(histogram)
        ]
        return b"\0" + b"".join(pairs)
    first = ((histogram & -histogram).bit_length() - 1) // LANE_BITS
    lanes = histogram >> (first * LANE_BITS)
    return (
        b"\1"
        + first.to_bytes(2, "little")
        + lanes.to_bytes((lanes.bit_length() + 7) // 8, "little")
    )


def decode_histogram(stored: bytes) -> int:
    if not stored:
        return 0
    if stored[0]:
        return int.from_bytes(stored[3:], "little") << (
            int.from_bytes(stored[1:3], "little") * LANE_BITS
        )
    total = 0
    for at in range(1, len(stored), 3):
        total += stored[at + 2] << (int.from_bytes(stored[at : at + 2], "little") * LANE_BITS)
    return total


def _list_counts(histogram: int) -> Iterator[tuple[int, int]]:
    """Yield class and count, for classes that have one, in ascending order."""
    lanes = histogram.to_bytes((histogram.bit_length() // LANE_BITS + 1) * _LANE_BYTES, "little")
    for number in range(len(lanes) // _LANE_BYTES):
        at = number * _LANE_BYTES
        count = int.from_bytes(lanes[at : at + _LANE_BYTES], "little")
        if count:
            yield number, count
