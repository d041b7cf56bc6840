"""The rules of payments and invoices, without I/O."""
