"""Joins those who hear of every settled call: metrics always, log line and spans as configured."""

from __future__ import annotations

import importlib
from typing import Any

import uvicorn

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.client import HttpClient
from headgate.kit.settings import Settings
from headgate.relay.journey import Observer
from headgate.telemetry.access_log import AccessLog
from headgate.telemetry.metrics import Metrics

STDERR = 2


class ExtraMissing(HeadgateError):
    kind = Kind.INVALID
    code = "extra_missing"


class Observers:
    """The observers of one process."""

    def __init__(self, settings: Settings, server: uvicorn.Server, client: HttpClient) -> None:
        self.access_log = AccessLog(STDERR) if settings.access_log else None
        self.spans = load_spans() if settings.otel_endpoint else None
        self.metrics = Metrics(
            {
                "connections": lambda: len(server.server_state.connections),
                "requests_in_flight": lambda: len(server.server_state.tasks),
                "provider_connections": lambda: client.stats().open,
                "provider_connections_idle": lambda: client.stats().idle,
                "provider_connections_awaited": lambda: client.stats().waiting,
                "log_lines_dropped": lambda: self.access_log.dropped if self.access_log else 0,
            }
        )

    def all(self) -> tuple[Observer, ...]:
        """Those that are there, in the order in which they hear."""
        candidates = (self.metrics, self.access_log, self.spans)
        return tuple(observer for observer in candidates if observer is not None)

    def start(self) -> None:
        """Start the threads."""
        if self.access_log is not None:
            self.access_log.start()

    def stop(self) -> None:
        """Write and send what waits."""
        if self.access_log is not None:
            self.access_log.stop()
        if self.spans is not None:
            self.spans.stop()

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return self.metrics.render()


def load_spans() -> Any:
    """The span observer, from the extra that only those install who trace."""
    try:
        return importlib.import_module("headgate.telemetry.spans").Spans()
    except ImportError as error:
        raise ExtraMissing(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the exporter is not installed: "
            "pip install 'headgate[telemetry]'"
        ) from error
