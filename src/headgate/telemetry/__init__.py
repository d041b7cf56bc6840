"""Tells what happened: a log line, counters and spans, each made from receipts (law 10)."""
