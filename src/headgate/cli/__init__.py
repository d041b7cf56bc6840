"""The command line."""

from headgate.cli.program import main

__all__ = ["main"]
