"""Describe model traffic: wire formats, usage, providers.

Pure functions on bytes: no clock, no I/O.
"""
