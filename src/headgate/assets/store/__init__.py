"""The SQL of assets and handles."""
