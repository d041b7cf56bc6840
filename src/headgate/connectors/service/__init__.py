"""Connectors: which actions there are, and how one is run."""
