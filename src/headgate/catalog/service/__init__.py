"""The catalog in memory, the prices, and the settings of organizations."""
