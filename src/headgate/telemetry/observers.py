"""Tell the observers of settled calls in batches: metrics, access log and spans."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.ports import Receipt
from headgate.telemetry.access_log import AccessLog
from headgate.telemetry.loop_lag import LoopLagMonitor
from headgate.telemetry.metrics import Metrics

STDERR = 2
BATCH_SECONDS = 0.02
"""How long receipts are gathered: observing many at once costs a third of one at a time."""


class ExtraNotInstalledError(HeadgateError):
    """A setting needs an optional package that is not installed.

    Install the extra that the message names.
    """

    kind = Kind.INVALID
    code = "extra_missing"


class Observers:
    """Hold the observers of one process: metrics always, access log and spans as configured."""

    def __init__(
        self,
        gauges: Mapping[str, Callable[[], float]],
        *,
        access_log: bool = False,
        spans: bool = False,
    ) -> None:
        self._waiting: list[tuple[Receipt, int]] = []
        self._entries: list[msgspec.Struct] = []
        self.access_log = AccessLog(STDERR) if access_log else None
        self.spans = load_spans() if spans else None
        self.metrics = Metrics(
            {
                **gauges,
                "log_lines_dropped": lambda: self.access_log.dropped if self.access_log else 0,
                "tasks": lambda: len(asyncio.all_tasks()),
                "threads": threading.active_count,
            }
        )
        self._loop_lag = LoopLagMonitor(self.metrics.loop_lag.observe)

    def watch(
        self,
        gauges: Mapping[str, Callable[[], float]],
        counters: Mapping[str, Callable[[], float]] | None = None,
    ) -> None:
        self.metrics.gauges.update(gauges)
        self.metrics.counters.update(counters or {})

    def observe(self, receipt: Receipt, settlement_microseconds: int) -> None:
        """Queue a settled call; all observers are told of a batch a moment later."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._notify)
        self._waiting.append((receipt, settlement_microseconds))

    def log(self, entry: msgspec.Struct) -> None:
        """Queue a line of the access log that is no receipt."""
        if not self._entries:
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._notify)
        self._entries.append(entry)

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        entries, self._entries = self._entries, []
        receipts = [receipt for receipt, _ in waiting]
        self.metrics.observe(receipts, [settlement for _, settlement in waiting])
        if self.access_log is not None:
            self.access_log.observe([*receipts, *entries])
        if self.spans is not None:
            self.spans.observe(receipts)

    def start(self) -> None:
        self._loop_lag.start()
        if self.access_log is not None:
            self.access_log.start()

    def stop(self) -> None:
        self._loop_lag.stop()
        self._notify()
        if self.access_log is not None:
            self.access_log.stop()
        if self.spans is not None:
            self.spans.stop()

    def render(self) -> bytes:
        # A scrape must include every call that was settled before it.
        self._notify()
        return self.metrics.render()


def load_spans() -> Any:
    """Load the spans of the optional extra `headgate[telemetry]`. Raise if it is not installed."""
    try:
        return importlib.import_module("headgate.telemetry.spans").Spans()
    except ImportError as error:
        raise ExtraNotInstalledError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the exporter is not installed: "
            "pip install 'headgate[telemetry]'"
        ) from error
