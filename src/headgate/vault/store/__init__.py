"""The SQL of keys, seals and stored secrets."""
