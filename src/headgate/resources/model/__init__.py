"""The values and rules of resources."""
