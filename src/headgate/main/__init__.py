"""The composition root: builds every object once, from settings, and starts and stops them."""
