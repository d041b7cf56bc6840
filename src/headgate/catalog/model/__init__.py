"""Integrations, models, prices and settings: values and rules."""
