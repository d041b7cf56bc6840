"""Opens the data directory of a command, without starting a server."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from headgate import settings
from headgate.kit import log
from headgate.main.application import Application, open_existing_application
from headgate.settings import Settings


def load_settings(
    data: Path | None, environment: Mapping[str, str] = os.environ, **overrides: Any
) -> Settings:
    """Read the settings of a command and set up its log on standard error."""
    loaded = settings.load(environment, data=data, **overrides)
    log.configure(sys.stderr, level=loaded.log_level)
    return loaded


@contextlib.contextmanager
def open_data_directory(
    data: Path | None, environment: Mapping[str, str] = os.environ
) -> Generator[Application]:
    """Open the services of a data directory. Raise as `open_existing_application`."""
    with open_existing_application(load_settings(data, environment)) as application:
        yield application
