"""Provide the egress client: every outgoing HTTP/1.1 connection is `client.Client`'s (law 6)."""
