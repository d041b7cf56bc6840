"""A starter of the gateway in TensorZero's wheel, run with the Python of its environment."""

from __future__ import annotations

import importlib
import signal
import sys
import warnings
from collections.abc import Callable
from types import SimpleNamespace


def main() -> None:
    """Start the gateway of the file in argument 1, write its address to argument 2, wait."""
    warnings.simplefilter("ignore")
    client = SimpleNamespace(base_url="", api_key="")
    start: Callable[..., object] = importlib.import_module("tensorzero").patch_openai_client
    start(client, config_file=sys.argv[1], async_setup=False)
    with open(sys.argv[2], "w") as address:
        address.write(str(client.base_url))
    signal.pause()


main()
