"""Assets: files that are kept and served, and handles of content that is kept for an hour."""
