"""What a script is made of: the request that it answers, and the steps of its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec


class FaultRequest(msgspec.Struct):
    """A request. `wire` is chat, responses, embeddings or raw; `key` the bearer token it came
    with, `options` the numbers that it sets for its script, `elsewhere` another address.
    """

    wire: str
    streams: bool
    key: bytes
    options: dict[str, float]
    elsewhere: str = ""

    def option(self, name: str, default: float) -> float:
        """What the request sets, else the default."""
        return self.options.get(name, default)


class Send(msgspec.Struct):
    """Send bytes as they are. `tokens` counts the text in them; `states_usage` marks the bytes that
    state the usage of the whole answer, in numbers that are right.
    """

    data: bytes
    tokens: int = 0
    states_usage: bool = False


class StartBilling(msgspec.Struct):
    """From here on the request is charged for: an honest provider has begun to work."""

    input_tokens: int


class Pause(msgspec.Struct):
    """Silence of so many seconds."""

    seconds: float


class Repeat(msgspec.Struct):
    """The same bytes again and again, which are never held all at once."""

    data: bytes
    times: int


class Reset(msgspec.Struct):
    """The connection is cut with a RST."""


class Close(msgspec.Struct):
    """The connection is closed in order (FIN), whatever was announced."""


Step = Send | StartBilling | Pause | Repeat | Reset | Close
Steps = Iterator[Step]


class Script(msgspec.Struct, frozen=True):
    """One fault. `name` begins with its id in the fault plan."""

    name: str
    play: Callable[[FaultRequest], Steps]
    about: str
