"""What model traffic looks like. Pure: bytes in, bytes out, no clock, no I/O."""
