"""Holds the platform API to its own OpenAPI document, with schemathesis, as several roles (F1)."""
