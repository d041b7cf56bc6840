"""The values and rules of keys, seals and stored secrets."""
