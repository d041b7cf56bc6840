"""The access log, metrics and spans, all made from receipts (law 10)."""
