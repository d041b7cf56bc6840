"""The simulator's limits and pace."""

from __future__ import annotations

import msgspec


class SimulatorSettings(msgspec.Struct, frozen=True):
    """Limit what the simulator stores, and pace its streams.

    `objects_max` and `objects_bytes_max` bound each kind of stored object, `collections_max` the
    conversations and the vector stores, `files_bytes_max` all files together, `body_bytes_max` one
    request. `chunk_delay_seconds` is the pause between streamed events.
    """

    objects_max: int = 1000
    objects_bytes_max: int = 32 * 1024 * 1024
    collections_max: int = 100
    files_bytes_max: int = 64 * 1024 * 1024
    body_bytes_max: int = 64 * 1024 * 1024
    chunk_delay_seconds: float = 0.0
