"""One line of JSON for every call: its receipt. Written by a thread, in batches.

A receipt holds ids, counts and names, never a body or a secret, so there is nothing to mask.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading

import msgspec

from headgate.relay.ports import Receipt

BATCH_SECONDS = 0.1
LINES_MAX = 10_000
"""Lines that may wait for a slow reader of the log; past it they are counted and dropped."""


class AccessLog:
    """Observes receipts. A reader of the log that stalls never stalls a call."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: list[bytes] = []
        self._encoder = msgspec.json.Encoder()
        self._batches: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="headgate-access-log", daemon=True)
        self.dropped = 0

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then end."""
        self._flush()
        self._batches.put(None)
        self._thread.join(timeout=1.0)

    def observe(self, receipt: Receipt) -> None:
        """Queue the line of one call."""
        lines = self._lines
        if not lines:
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._flush)
        elif len(lines) >= LINES_MAX:
            self.dropped += 1
            return
        lines.append(b'{"event":"call",' + self._encoder.encode(receipt)[1:])

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if not lines:
            return
        if self._batches.qsize() * BATCH_SECONDS > 10:
            self.dropped += len(lines)
            return
        self._batches.put(b"\n".join((*lines, b"")))

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                while batch:
                    batch = batch[os.write(self._descriptor, batch) :]
            except OSError:
                # Whoever read the log is gone; the calls go on.
                self.dropped += batch.count(b"\n")
