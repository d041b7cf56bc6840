"""The SQL of resources."""
