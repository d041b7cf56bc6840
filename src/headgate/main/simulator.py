"""Find the simulator: a distribution of its own, which need not be installed."""

from __future__ import annotations

import importlib
from typing import Any

from headgate.kit.errors import HeadgateError, Kind
from headgate.settings import Settings

PACKAGE = "headgate_simulator"


class SimulatorNotInstalledError(HeadgateError):
    """The simulator is a package of its own, and is not installed.

    Install `headgate[simulator]`, or start without `--simulator`.
    """

    kind = Kind.INVALID
    code = "simulator_missing"


def load_simulator() -> Any:
    """Return the simulator's module of commands. Raise `SimulatorNotInstalledError`."""
    try:
        return importlib.import_module(f"{PACKAGE}.commands")
    except ModuleNotFoundError as error:
        if error.name != PACKAGE:
            raise
        message = (
            "The simulator is not installed; add it: pip install 'headgate[simulator]', "
            "or pip install ./simulator in a checkout."
        )
        raise SimulatorNotInstalledError(message) from None


def check_simulator(settings: Settings) -> None:
    """Raise `SimulatorNotInstalledError` if calls need the simulator and it is absent."""
    if settings.is_simulated:
        load_simulator()
