"""Convert Chat Completions to Responses, and answers back."""
