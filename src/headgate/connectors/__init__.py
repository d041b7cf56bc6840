"""Connectors: the typed actions that integrators and agents call. Each folder here with a
`manifest.toml` is one connector; `docs/connectors.md` tells how to add another."""
