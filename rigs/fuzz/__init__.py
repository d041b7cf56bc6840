"""Fuzzing of everything that reads foreign bytes.

A check (`rigs.fuzz.checks`) is a function of bytes that raises when a promise is broken. Atheris
runs it for minutes (`python -m rigs.fuzz`), hypothesis for a moment in every test run. Inputs that
once broke a check are in `tests/golden/fuzz`, and both try them again.
"""
