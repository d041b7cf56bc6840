"""Describe each wire in a module of its own, with its `METER`; none knows another."""
