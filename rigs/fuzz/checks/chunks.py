"""Any bytes as an order, a payload, and ways of cutting it."""

from __future__ import annotations

from collections.abc import Iterator


def split_order(data: bytes) -> tuple[int, bytes]:
    """The first byte, which says how a check goes about it, and the rest, which it is about."""
    return (data[0], data[1:]) if data else (0, b"")


def cut_variously(order: int, stream: bytes) -> Iterator[list[bytes]]:
    """The stream in single bytes, in pieces of uneven sizes, and with an empty piece in it."""
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
