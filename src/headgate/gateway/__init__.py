"""Carry the data plane: the HTTP edge that every model call passes."""
