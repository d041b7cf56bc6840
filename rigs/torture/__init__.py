"""Kills, starves and cuts off a running gateway, and judges by its books what became of the calls.

`python -m rigs.torture` (`make torture`) runs every part; `--quick` a short form, `--only` some.
"""
