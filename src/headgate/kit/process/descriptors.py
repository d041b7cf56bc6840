"""Raise the limit of open files, and fit connections and requests into it."""

from __future__ import annotations

import contextlib
import resource

import structlog

RESERVED = 128
"""Files for the database, the logs, the listeners, and connections that are being rejected."""

log = structlog.get_logger(__name__)


def raise_limit() -> int:
    """Raise the limit of open files as far as the system allows; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems have a lower bound than the one that they name.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def share(
    connections_max: int, requests_max: int, *, files_max: int | None = None
) -> tuple[int, int]:
    """Return the connections and the requests in flight that fit into the limit of open files.

    A connection takes one file, and a request one more where it is sent on. Log a warning when
    fewer fit than were asked for.
    """
    files_max = raise_limit() if files_max is None else files_max
    free = max(2, files_max - RESERVED)
    if files_max == resource.RLIM_INFINITY or connections_max + requests_max <= free:
        return connections_max, requests_max
    requests = min(requests_max, max(1, free // 3))
    connections = min(connections_max, free - requests)
    log.warning(
        "edge.few_files",
        files_max=files_max,
        connections_max=connections,
        requests_in_flight_max=requests,
        hint="raise the limit of open files (ulimit -n, LimitNOFILE)",
    )
    return connections, requests
