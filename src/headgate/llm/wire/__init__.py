"""One module per wire, each with its `METER`. Wires do not know each other."""
