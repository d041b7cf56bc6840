"""The SQL of capacity."""
