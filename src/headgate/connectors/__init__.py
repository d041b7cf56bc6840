"""Connectors: the typed actions that integrators and agents call. Each folder here with a
`manifest.toml` is one connector."""
