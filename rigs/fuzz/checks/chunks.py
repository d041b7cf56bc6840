"""Split fuzz inputs: a first byte that selects, a payload, and ways to cut it."""

from __future__ import annotations

from collections.abc import Iterator


def split_first_byte(data: bytes) -> tuple[int, bytes]:
    """Return the first byte, which selects what a check does, and the rest."""
    return (data[0], data[1:]) if data else (0, b"")


def cut_in_many_ways(order: int, stream: bytes) -> Iterator[list[bytes]]:
    """Yield the stream in single bytes, in pieces of uneven sizes, and with an empty piece."""
    yield [stream[index : index + 1] for index in range(len(stream))]
    uneven: list[bytes] = []
    position, step = 0, order % 7 + 1
    while position < len(stream):
        uneven.append(stream[position : position + step])
        position += step
        step = step * 5 % 17 + 1
    yield uneven
    half = len(stream) * (order % 16) // 16
    yield [stream[:half], b"", stream[half:]]
