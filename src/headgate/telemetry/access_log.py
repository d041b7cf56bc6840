"""Write the access log: one line of JSON for every call, its receipt, in batches from a thread.

A receipt holds ids, counts and names, never a body or a secret, so there is nothing to mask.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Sequence

import msgspec

from headgate.relay.ports import Receipt

BATCHES_MAX = 500
"""Batches that may wait for a slow reader of the log; further ones are dropped and counted."""


class AccessLog:
    """Write receipts to a file descriptor. A stalled reader of the log never stalls a call."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._encoder = msgspec.json.Encoder()
        self._batches: queue.SimpleQueue[Sequence[Receipt] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="headgate-access-log", daemon=True)
        self.dropped = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._batches.put(None)
        self._thread.join(timeout=1.0)

    def observe(self, receipts: Sequence[Receipt]) -> None:
        # Lines are dropped rather than held without bound, or waited for.
        if self._batches.qsize() < BATCHES_MAX:
            self._batches.put(receipts)
        else:
            self.dropped += len(receipts)

    def _write(self) -> None:
        while (receipts := self._batches.get()) is not None:
            lines = self._encoder.encode_lines(receipts)
            try:
                while lines:
                    lines = lines[os.write(self._descriptor, lines) :]
            except OSError:
                # The reader of the log is gone. Calls must go on without it.
                self.dropped += lines.count(b"\n")
