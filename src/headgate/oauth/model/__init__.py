"""Scopes, tokens, clients and grants of the authorization server, and its errors."""
