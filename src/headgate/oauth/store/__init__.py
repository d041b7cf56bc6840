"""The SQL of connected applications, and of their grants and tokens."""
