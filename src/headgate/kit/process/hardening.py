"""Keeps the secrets of a process from its neighbours: no core dump, no tracer, a clean environment.

What it does not do: root, and whoever may trace every process, sees the memory all the same.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Iterable, MutableMapping

import structlog

PR_SET_DUMPABLE = 4
"""From <sys/prctl.h>."""

log = structlog.get_logger(__name__)


def deny_inspection() -> None:
    """No core dump of this process, wherever the system sends them, and no tracer but root.

    On Linux `/proc/PID/{environ,mem,maps,fd}` belong to root from now on. Elsewhere, and where
    the kernel does not grant it, only the size of a core is limited.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A limit of 0 does not hold back a core that is piped to a program; this does.
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("hardening.refused", wanted="PR_SET_DUMPABLE 0")


def erase_variables(
    names: Iterable[str], environment: MutableMapping[str, str] = os.environ
) -> None:
    """Take variables out of the environment, so that no child inherits them.

    The kernel shows the memory in which the environment came, so each value is overwritten there.
    """
    for name in names:
        if environment.get(name):
            _overwrite(name.encode())
            del environment[name]


def _overwrite(name: bytes) -> None:
    """The C library knows where the value lies; nothing has moved it since the start."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    address = getenv(ctypes.c_char_p(name))
    if address:
        ctypes.memset(address, ord("-"), len(ctypes.string_at(address)))
