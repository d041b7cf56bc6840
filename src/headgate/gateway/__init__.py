"""The data plane: the door through which every model call comes in."""
