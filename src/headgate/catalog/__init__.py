"""Knows integrations, their models and dated prices; the facts are in `data`."""
