"""All SQL of payments and invoices."""
