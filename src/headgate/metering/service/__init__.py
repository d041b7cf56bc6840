"""What metering does, for the rest of the product."""
