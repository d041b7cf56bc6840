"""The data directory: who has it, what is in it, and its backups."""
