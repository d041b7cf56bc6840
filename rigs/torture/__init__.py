"""Kills, full disks and failed flushes of a running gateway, judged by its ledger.

`python -m rigs.torture` (`make torture`) runs every part; `--quick` a short form, `--only` some.
"""
