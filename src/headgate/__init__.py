"""Headgate: one gate that every model call of an organization passes."""

__version__ = "0.1.0"
