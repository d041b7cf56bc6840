"""The sources of the catalog: manifest files, and the tables of prices and settings."""
