"""Tools with no product noun, which could be lifted into another project."""
