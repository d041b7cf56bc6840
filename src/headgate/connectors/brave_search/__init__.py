"""Search the web with Brave Search."""
