"""Receipts: what every call used and cost, stored once."""
