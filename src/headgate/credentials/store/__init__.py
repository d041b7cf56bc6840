"""The SQL of credentials, their capacity and managed models."""
