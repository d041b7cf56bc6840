"""Where the catalog comes from: files of integrations, and the tables of prices and settings."""
