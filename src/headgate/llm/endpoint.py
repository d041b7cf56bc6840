"""What an address of the provider's API is: how its body travels, how its answer is metered."""

from __future__ import annotations

import enum

import msgspec

from headgate.llm.meter import Meter
from headgate.llm.request import ALL_FIELDS, CheckedFields


class Body(enum.Enum):
    """How a request's body is handled."""

    NONE = "none"
    JSON = "json"
    """Buffered; the model, the stream flag and the envelopes are read from its top level."""
    FORM = "form"
    """Buffered multipart; the model is read from its field."""
    RAW = "raw"
    """Streamed through untouched, never buffered whole."""


class Pricing(enum.Enum):
    """Where the price of an answer comes from."""

    USAGE = "usage"
    FREE = "free"
    """On the signed free list: the provider charges nothing for it."""
    UNKNOWN = "unknown"
    """Leaves an explicit unpriced receipt."""


class Endpoint(msgspec.Struct, frozen=True):
    """One row of the table of addresses.

    `name` is the scope that a key needs and the label in receipts and metrics
    (`chat.completions`, `responses`, `files`, ...). `path` is below `/v1`, with `{id}` for one
    segment and a last `{rest}` for any number of them. `restricted` ones need a key that names
    them. `unsupported` ones are refused with that sentence.
    """

    name: str
    methods: tuple[str, ...]
    path: str
    meter: Meter
    body: Body = Body.RAW
    pricing: Pricing = Pricing.UNKNOWN
    checked: CheckedFields = ALL_FIELDS
    """The fields of a JSON request that are acted on."""
    asks_usage: bool = False
    """The gateway adds `stream_options.include_usage` to a streamed request (decision 8)."""
    lists_models: bool = False
    """Its answers name models, so a key that is limited to some must not see the others."""
    large_events: bool = False
    """One event of a stream may be as large as a whole answer: it carries the answer again, or
    images."""
    characters_of: str | None = None
    """The field of a request whose characters are its measure where the answer states none."""
    downloads: bool = False
    """Its answer is a file, which streams through whatever its type."""
    restricted: bool = False
    unsupported: str = ""

    @property
    def is_metered(self) -> bool:
        """Whether its answers say what they cost."""
        return self.pricing is Pricing.USAGE
