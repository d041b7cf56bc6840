"""Scoped API keys: issued and revoked in the database, checked in memory."""
