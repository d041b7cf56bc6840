"""Convert Responses requests to Chat Completions, and the answers back."""
