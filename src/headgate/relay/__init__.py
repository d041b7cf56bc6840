"""Run a model call: admit, route, hold, send, transfer, settle."""
