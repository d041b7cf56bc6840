"""The soak: many mixed calls through one running Headgate, and what is left of them in memory."""
