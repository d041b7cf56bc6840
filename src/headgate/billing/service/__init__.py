"""What billing does, for the rest of the product."""
