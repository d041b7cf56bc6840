"""Describe each provider in a module of its own, with its `PROVIDER`."""
