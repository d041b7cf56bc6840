"""Feeds readers of foreign bytes with bytes that nobody meant: each check is written once, for all.

A check (`rigs.fuzz.checks`) is a function of bytes that raises when a promise is broken. Atheris
drives it for minutes (`python -m rigs.fuzz`), hypothesis for a moment in every test run, and what
once broke it stays in `tests/golden/fuzz` and is tried again in each.
"""
