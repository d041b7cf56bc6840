"""Make the process die, fail or wait at named places, for tests.

Each place costs a test of an empty dictionary. `arm` is called at the start with the value of
`HEADGATE_FAILPOINT`, which `HEADGATE_TEST_MODE` alone makes valid:
`NAME=kill`, `NAME=raise` or `NAME=sleep:SECONDS`, each with `@NTH` for the nth time only;
several with commas between them.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Collection

from headgate.kit.errors import HeadgateError, Kind

_FORM = re.compile(r"([a-z_]+)=(?:(kill|raise)|sleep:(\d+(?:\.\d+)?))(?:@([1-9]\d*))?")


class InvalidFailpointError(HeadgateError):
    """`HEADGATE_FAILPOINT` is set without test mode, or names no failpoint.

    Remove it from every server that matters.
    """

    kind = Kind.INVALID
    code = "failpoint_refused"


class FailpointError(Exception):
    """Report the fault that `NAME=raise` injects; no code expects it."""


class Failpoint:
    """Hold the action of one failpoint; `seconds` is the length of a sleep."""

    def __init__(self, name: str, action: str, *, seconds: float, nth: int) -> None:
        self._name = name
        self._action = action
        self._seconds = seconds
        self._nth = nth
        self._hits = 0

    def hit(self) -> None:
        self._hits += 1
        if self._nth and self._hits != self._nth:
            return
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._action == "raise":
            raise FailpointError(self._name)
        threading.Event().wait(self._seconds)


_armed: dict[str, Failpoint] = {}


def failpoint(name: str) -> None:
    """Run the action armed for this place; do nothing where none is."""
    if _armed and name in _armed:
        _armed[name].hit()


def arm(text: str | None = None, names: Collection[str] = (), *, test_mode: bool = False) -> None:
    """Arm the failpoints that `text` names, and no others; no `names` allow any.

    Raise `InvalidFailpointError` outside of test mode.
    """
    _armed.clear()
    if text is None:
        return
    if not test_mode:
        raise InvalidFailpointError(
            "HEADGATE_FAILPOINT breaks the process on purpose, so it is taken only with "
            "HEADGATE_TEST_MODE=true. Remove it: no server that matters has either."
        )
    for part in text.split(","):
        found = _FORM.fullmatch(part.strip())
        if found is None or (names and found[1] not in names):
            raise InvalidFailpointError(
                f"HEADGATE_FAILPOINT: {part!r} is not NAME=kill|raise|sleep:SECONDS[@NTH] with one "
                f"of the names {', '.join(names)}."
            )
        name, action, seconds, nth = found.groups()
        _armed[name] = Failpoint(
            name, action or "sleep", seconds=float(seconds or 0), nth=int(nth or 0)
        )
