"""The operating system process: its secrets, open files, memory and listening sockets."""
