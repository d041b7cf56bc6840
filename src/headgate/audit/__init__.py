"""Remembers who did what to which object, from where, in a chain that shows what was changed."""
