"""Master keys, organization keys, seals, their rotation, and stored secrets."""
