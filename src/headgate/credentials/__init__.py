"""Provider credentials: stored, validated, tested, and picked for a call."""
