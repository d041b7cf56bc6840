"""The audit log: who did what to which object, from where, in a chain of hashes."""
