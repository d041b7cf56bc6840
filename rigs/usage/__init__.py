"""Queries of usage over ten million receipts."""
