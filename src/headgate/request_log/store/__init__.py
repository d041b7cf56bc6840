"""All SQL of the request log."""
