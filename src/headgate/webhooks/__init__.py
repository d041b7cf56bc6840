"""Deliver signed events to endpoints that customers register."""
