"""Histograms of latencies that can be added up, for percentiles over any range.

The classes grow by 4 %, so a percentile is at most 2 % beside the exact one. A histogram is one
integer with a lane of 40 bits for each class: adding two of them is one addition.
"""

from __future__ import annotations

import math
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

GROWTH = 1.04
FIRST_MICROSECONDS = 100
LAST_MICROSECONDS = 7_200_000_000
LANE_BITS = 40
"""The width of a class's count: a trillion calls do not overflow it."""

_LANE_BYTES = LANE_BITS // 8
_SPARSE_MAX = 32
"""The most latencies of which each class is stored by its number."""
_GATHERED_BYTES_MAX = 256 * 1024
_CLASSES = math.ceil(math.log(LAST_MICROSECONDS / FIRST_MICROSECONDS) / math.log(GROWTH)) + 1
_ENDS = [round(FIRST_MICROSECONDS * GROWTH**number) for number in range(_CLASSES)]
"""The greatest latency of each class; longer ones count in the last class."""


def make_histogram(microseconds: int) -> int:
    """Return the histogram of one latency."""
    return 1 << (min(bisect_left(_ENDS, microseconds), _CLASSES - 1) * LANE_BITS)


def find_percentile(histogram: int, share: float) -> int | None:
    """Return the nearest-rank percentile in microseconds; None for an empty histogram."""
    return find_percentiles(histogram, (share,))[0]


def find_percentiles(histogram: int, shares: Sequence[float]) -> list[int | None]:
    """Return the percentiles of ascending shares."""
    counts = list(_list_counts(histogram))
    total = sum(count for _, count in counts)
    found: list[int | None] = []
    seen = 0
    for number, count in counts:
        seen += count
        while len(found) < len(shares) and seen >= math.ceil(total * shares[len(found)]):
            found.append(round(_ENDS[number] * 2 / (1 + GROWTH)))
    return found + [None] * (len(shares) - len(found))


def encode_histogram(histogram: int, count: int) -> bytes:
    """Return the stored form of a histogram of `count` latencies: few of them as the number of the
    class of each, else the counts of all classes from the first to the last."""
    if not histogram:
        return b""
    if count <= _SPARSE_MAX:
        numbers = array("H")
        for number, seen in _list_counts(histogram):
            numbers.extend([number] * seen)
        return b"\0" + _swap(numbers).tobytes()
    first = ((histogram & -histogram).bit_length() - 1) // LANE_BITS
    lanes = histogram >> (first * LANE_BITS)
    return (
        b"\1"
        + first.to_bytes(2, "little")
        + lanes.to_bytes((lanes.bit_length() + 7) // 8, "little")
    )


def decode_histogram(stored: bytes) -> int:
    sum_ = HistogramSum()
    sum_.add(stored)
    return sum_.total()


class HistogramSum:
    """Add up stored histograms. Those of few latencies are gathered, and counted together."""

    def __init__(self) -> None:
        self._dense = 0
        self._sparse = bytearray()

    def add(self, stored: bytes) -> None:
        if not stored:
            return
        if stored[0]:
            first = int.from_bytes(stored[1:3], "little")
            self._dense += int.from_bytes(stored[3:], "little") << (first * LANE_BITS)
            return
        self._sparse += stored[1:]
        if len(self._sparse) > _GATHERED_BYTES_MAX:
            self._dense = self.total()

    def total(self) -> int:
        numbers = array("H")
        numbers.frombytes(self._sparse)
        self._sparse.clear()
        for number, seen in Counter(_swap(numbers)).items():
            self._dense += seen << (number * LANE_BITS)
        return self._dense


def _swap(numbers: array[int]) -> array[int]:
    """Return the numbers in little-endian order, as they are stored."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _list_counts(histogram: int) -> Iterator[tuple[int, int]]:
    """Yield class and count, for classes that have one, in ascending order."""
    first = max(0, (histogram & -histogram).bit_length() - 1) // LANE_BITS
    lanes = histogram >> (first * LANE_BITS)
    stored = lanes.to_bytes((lanes.bit_length() // LANE_BITS + 1) * _LANE_BYTES, "little")
    for at in range(0, len(stored), _LANE_BYTES):
        count = int.from_bytes(stored[at : at + _LANE_BYTES], "little")
        if count:
            yield first + at // _LANE_BYTES, count
