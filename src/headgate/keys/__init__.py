"""Issues and revokes scoped keys, and answers from memory what a token may do."""
