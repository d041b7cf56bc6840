"""Refuse a call whose conversion would lose something, where its caller wants nothing lost."""

from __future__ import annotations

from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.convert.losses import Losses
from headgate.relay.call import Call

PLACES_MAX = 16
PLACE_CHARACTERS_MAX = 128


class ConversionLossyError(HeadgateError):
    """The request has something that its model's API has no equal for, and strict mode is on.

    Leave out what the message names, or leave out the header `x-headgate-conversion: strict`.
    """

    kind = Kind.INVALID
    code = "conversion_lossy"


def check_losses(call: Call, losses: Losses) -> None:
    """Raise `ConversionLossyError` for a call in strict mode that loses something."""
    if not call.is_strict or not losses:
        return
    found = list(losses)
    listed = [f"{place[:PLACE_CHARACTERS_MAX]} ({handling})" for place, handling in found]
    if len(listed) > PLACES_MAX:
        listed = [*listed[:PLACES_MAX], f"{len(listed) - PLACES_MAX} more"]
    raise ConversionLossyError(
        f"The conversion of this request would lose: {', '.join(listed)}. Leave that out, or send "
        "the request without `x-headgate-conversion: strict`.",
        param=found[0][0][:PLACE_CHARACTERS_MAX],
        should_retry=False,
    )
