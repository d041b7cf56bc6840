"""The pipeline of one model call: admit, route, hold, send, transfer, settle."""
