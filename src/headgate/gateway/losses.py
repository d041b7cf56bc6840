"""List what a conversion lost, in a header of the answer."""

from __future__ import annotations

import re

from headgate.llm.convert.losses import Losses

PLACE_CHARACTERS_MAX = 64
UNSAFE = re.compile(r"[^!-+\--:<-~]")
"""What no place may contain in a header: anything but printable ASCII without `,` and `;`."""
LOSSES_MAX = 32
"""How many losses are listed in a header; the rest is counted."""


def render_losses(losses: Losses) -> bytes:
    """Return the header line that lists what the conversion lost; empty for nothing."""
    if not losses:
        return b""
    listed = [
        f"{UNSAFE.sub('?', place[:PLACE_CHARACTERS_MAX])};{handling}" for place, handling in losses
    ]
    if len(listed) > LOSSES_MAX:
        listed = [*listed[:LOSSES_MAX], f"{len(listed) - LOSSES_MAX} more"]
    return b"x-headgate-conversion-losses: %b\r\n" % ", ".join(listed).encode()
