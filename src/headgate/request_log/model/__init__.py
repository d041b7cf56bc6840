"""The values of the request log."""
