"""Describe endpoints: how a request's body is handled, how its response is metered."""

from __future__ import annotations

import enum

import msgspec

from headgate.llm.meter import Meter
from headgate.llm.request import ALL_FIELDS, CheckedFields

CHAT_COMPLETIONS, RESPONSES = "chat.completions", "responses"
"""The surfaces: the APIs by which models answer, and between which calls are converted."""
MESSAGES = "messages"
"""The endpoint of Anthropic's clients, whose calls become those of Responses."""


class Body(enum.Enum):
    NONE = "none"
    JSON = "json"
    """Buffered; the model, the stream flag and the envelopes are read from its top level."""
    FORM = "form"
    """Buffered multipart; the model is read from its field."""
    RAW = "raw"
    """Streamed through untouched, never buffered whole."""


class Pricing(enum.Enum):
    USAGE = "usage"
    FREE = "free"
    """The provider charges nothing for it."""
    UNKNOWN = "unknown"
    """The receipt says explicitly that the call is unpriced."""


class Measure(enum.Enum):
    """Say by what the cost of a request is bounded before it is sent."""

    TOKENS = "tokens"
    IMAGES = "images"
    AUDIO = "audio"
    """The length of an audio file."""


class Endpoint(msgspec.Struct, frozen=True):
    """Describe one endpoint of a provider's API.

    `name` is the scope that a key needs and the label in receipts and metrics (`chat.completions`,
    `responses`, `files`, ...). `path` is below `/v1`, with `{id}` for one segment and a last
    `{rest}` for any number of them. `restricted` endpoints need a key that names them.
    `surface` is the API by which it asks for an answer, empty for an endpoint that no conversion
    stands in for. `unsupported` is the sentence that refuses the endpoint, empty for those that are
    served.
    """

    name: str
    methods: tuple[str, ...]
    path: str
    meter: Meter
    body: Body = Body.RAW
    pricing: Pricing = Pricing.UNKNOWN
    checked: CheckedFields = ALL_FIELDS
    """The fields of a JSON request that the gateway acts on."""
    asks_usage: bool = False
    """The gateway adds `stream_options.include_usage` to a streamed request (decision 0020)."""
    lists_models: bool = False
    """Its responses name models, and a key that is limited to some must not see the others."""
    large_events: bool = False
    """One event of a stream may be as large as a whole response: it repeats it, or has images."""
    of_response: bool = False
    """Its path names a stored response, which may run in the background."""
    measure: Measure = Measure.TOKENS
    output_limits: tuple[str, ...] = ()
    """The request fields that limit the output of one answer; the first is the current one."""
    characters_of: str | None = None
    """The request field whose characters are metered where the response states no usage."""
    downloads: bool = False
    """Its response is a file, which is streamed whatever its type."""
    restricted: bool = False
    unsupported: str = ""
    surface: str = ""

    @property
    def is_metered(self) -> bool:
        return self.pricing is Pricing.USAGE
