"""The types that the platform API reads and writes, a module for each module of `routes`."""
