"""What model traffic looks like: wire formats, usage, providers.

Pure functions on bytes: no clock, no I/O.
"""
