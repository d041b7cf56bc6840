"""What model traffic looks like: wires, usage, providers.

Pure: bytes in, bytes out, no clock, no I/O.
"""
