"""Offer tools that know nothing of the product, and could be moved to another project."""
