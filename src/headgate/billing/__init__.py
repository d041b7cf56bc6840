"""The ledger: wallets, holds and what managed calls cost, in double entry."""
