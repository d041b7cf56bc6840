"""Follow requests, keep them, find them, and replay them."""
