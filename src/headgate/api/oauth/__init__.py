"""The authorization server over HTTP: metadata, registration, consent, tokens (docs/oauth.md)."""
