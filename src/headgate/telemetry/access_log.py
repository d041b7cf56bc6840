"""Write the access log: one line of JSON for every call, its receipt, in batches from a thread.

A receipt holds ids, counts and names, never a body or a secret, so there is nothing to mask. The
lines of tool calls are written as well.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Sequence

import msgspec

BATCHES_MAX = 500
"""Batches that may wait for a slow reader of the log; further ones are dropped and counted."""


class AccessLog:
    """Write lines to a file descriptor. A stalled reader of the log never stalls a call."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._encoder = msgspec.json.Encoder()
        self._batches: queue.SimpleQueue[Sequence[msgspec.Struct] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="headgate-access-log", daemon=True)
        self.dropped = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._batches.put(None)
        self._thread.join(timeout=1.0)

    def observe(self, entries: Sequence[msgspec.Struct]) -> None:
        """Write a line for each entry: a receipt, or another struct without secrets."""
        # Lines are dropped rather than held without bound, or waited for.
        if self._batches.qsize() < BATCHES_MAX:
            self._batches.put(entries)
        else:
            self.dropped += len(entries)

    def _write(self) -> None:
        while (entries := self._batches.get()) is not None:
            lines = self._encoder.encode_lines(entries)
            try:
                while lines:
                    lines = lines[os.write(self._descriptor, lines) :]
            except OSError:
                # The reader of the log is gone. Calls must go on without it.
                self.dropped += lines.count(b"\n")
