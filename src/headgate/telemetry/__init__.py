"""Write the access log, metrics and spans, all from receipts (law 10)."""
