"""The values and rules of credentials, their capacity and managed models."""
