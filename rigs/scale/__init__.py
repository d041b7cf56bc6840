"""Headgate with many keys and credentials: its start, its key check, its list pages."""
