"""What must hold for any bytes, one module for each kind of reader."""
