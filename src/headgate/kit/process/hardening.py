"""Protect the secrets of a process: no core dump, no tracer, a clean environment.

It does not protect from root, nor from whoever may trace every process: they can read the memory.
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
    """Forbid core dumps of this process and tracers other than root.

    On Linux `/proc/PID/{environ,mem,maps,fd}` then belong to root. Elsewhere, and where the kernel
    refuses, only the size of core dumps is limited.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A limit of 0 does not hold back a core that is piped to a program; this does.
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("hardening.refused", wanted="PR_SET_DUMPABLE 0")


def erase_variables(
    names: Iterable[str], environment: MutableMapping[str, str] = os.environ
) -> None:
    """Remove variables from the environment, so that no child inherits them. The kernel shows the
    memory in which the environment came, so each value is overwritten there."""
    for name in names:
        if environment.get(name):
            _overwrite(name.encode())
            del environment[name]


def _overwrite(name: bytes) -> None:
    """Overwrite the value in place: the C library knows where it is, as nothing has moved it."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    address = getenv(ctypes.c_char_p(name))
    if address:
        ctypes.memset(address, ord("-"), len(ctypes.string_at(address)))
