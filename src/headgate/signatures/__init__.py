"""Signed requests: secrets of API keys that sign, and nonces that are accepted once."""
