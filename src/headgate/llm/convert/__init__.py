"""Convert between wire formats: pure functions, by pair."""
