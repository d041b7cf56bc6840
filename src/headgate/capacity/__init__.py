"""Capacity: limits of requests and tokens, and the pools that share a credential."""
