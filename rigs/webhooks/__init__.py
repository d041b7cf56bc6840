"""Webhooks of real servers to receivers in processes of their own: kills, loss, and speed."""
