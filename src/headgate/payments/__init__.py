"""Payments into wallets by a payment provider, refunds, adjustments, and invoices."""
