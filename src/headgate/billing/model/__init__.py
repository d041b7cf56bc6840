"""The rules of money, without I/O."""
