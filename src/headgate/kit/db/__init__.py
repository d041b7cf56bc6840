"""The database: one engine, one writer thread, tables declared by the stores that own them."""
