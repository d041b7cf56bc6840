"""The double-entry ledger: wallets, holds and the cost of managed calls."""
