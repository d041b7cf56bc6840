"""The authorization server: people connect applications to their organization by clicking."""
