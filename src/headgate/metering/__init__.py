"""Receipts: what every call used, stored once and summed for every number that is shown."""
