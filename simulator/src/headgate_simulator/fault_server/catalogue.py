"""All scripts by name, and the choice of the one that a request names."""

from __future__ import annotations

import re

from headgate_simulator.fault_server import body_faults, connection_faults, header_faults, response
from headgate_simulator.fault_server.steps import FaultRequest, Script, Steps

MARK = "fault:"
_OPTION = re.compile(r"([a-z]+)=([0-9.]+)")


def _right(request: FaultRequest) -> Steps:
    return response.correct(request)


GOOD = Script("good", _right, "no fault: the right answer")
SCRIPTS = {
    script.name: script
    for script in (GOOD, *connection_faults.SCRIPTS, *body_faults.SCRIPTS, *header_faults.SCRIPTS)
}


def find(spec: str) -> tuple[Script, dict[str, float]]:
    """Return the script and its options of `U8.late,seconds=2`. Raise `ValueError` for an unknown
    one.
    """
    name, *options = spec.split(",")
    script = SCRIPTS.get(name)
    matches = [_OPTION.fullmatch(option) for option in options]
    if script is None or None in matches:
        raise ValueError(f"Unknown fault {spec!r}. Known: {', '.join(SCRIPTS)}.")
    return script, {match[1]: float(match[2]) for match in matches if match}
