"""Manage the operating system process: secrets, open files, memory, listening sockets."""
