"""The data plane: the HTTP edge that every model call passes."""
