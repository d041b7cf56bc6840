"""The soak: many mixed calls through one running Headgate, and the memory that they leave."""
