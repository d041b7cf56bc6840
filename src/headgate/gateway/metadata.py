"""Read the metadata of a call that its client sends in a header, for the receipt."""

from __future__ import annotations

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.vmx import METADATA_KEY_MAX, METADATA_PAIRS_MAX, METADATA_VALUE_MAX


class InvalidMetadataError(HeadgateError):
    """The header `x-headgate-metadata` is no JSON object of strings, or exceeds its limits.

    Send at most 16 pairs, with keys of at most 64 characters and values of at most 512.
    """

    kind = Kind.INVALID
    code = "invalid_metadata"


def parse_metadata(value: bytes) -> str:
    """Return the metadata of a call as JSON text. Raise `InvalidMetadataError`."""
    try:
        pairs = msgspec.json.decode(value, type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pairs = None
    if pairs is None or len(pairs) > METADATA_PAIRS_MAX:
        raise InvalidMetadataError(
            "The header `x-headgate-metadata` must be a JSON object of at most "
            f"{METADATA_PAIRS_MAX} pairs of strings.",
            should_retry=False,
        )
    for key, text in pairs.items():
        if len(key) > METADATA_KEY_MAX or len(text) > METADATA_VALUE_MAX:
            raise InvalidMetadataError(
                f"In `x-headgate-metadata` a key has at most {METADATA_KEY_MAX} characters, and a "
                f"value at most {METADATA_VALUE_MAX}: look at {key[:METADATA_KEY_MAX]!r}.",
                should_retry=False,
            )
    return msgspec.json.encode(pairs).decode() if pairs else ""
