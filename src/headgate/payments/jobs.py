"""Background jobs of payments."""

from __future__ import annotations

TOP_UP_SECONDS = 5.0
"""How often wallets are compared with the thresholds of their automatic top-ups."""
