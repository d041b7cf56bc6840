"""Provide the database: one engine, one writer thread, tables declared by their stores."""
