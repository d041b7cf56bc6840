"""The matrix of upstream faults: every script on every wire, streamed and not, through a gateway.

`python -m rigs.faults` runs it in full and prints a table.
"""
