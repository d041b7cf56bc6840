"""Rigs that attack a running Headgate and judge what is left of it: kills, soaks, fuzz, mutants."""
