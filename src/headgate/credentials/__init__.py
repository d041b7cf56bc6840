"""Keeps provider credentials, tests them, and picks the right one for a call."""
