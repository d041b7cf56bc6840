"""The egress client: every outgoing HTTP/1.1 connection goes through `client.Client` (law 6)."""
