"""What assets and handles are."""
