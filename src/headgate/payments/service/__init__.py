"""What payments does, for the rest of the product."""
