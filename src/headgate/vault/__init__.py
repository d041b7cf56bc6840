"""Seals provider credentials, opens them into memory, and picks the right one for a call."""
