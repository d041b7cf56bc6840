"""The parts of a script: the request that it answers, and the steps of its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec


class FaultRequest(msgspec.Struct):
    """Hold a request. `wire` is chat, responses, embeddings or raw; `key` is its bearer token,
    `options` the numbers that it sets for its script, `elsewhere` the address for redirects.
    """

    wire: str
    streams: bool
    key: bytes
    options: dict[str, float]
    elsewhere: str = ""

    def option(self, name: str, default: float) -> float:
        return self.options.get(name, default)


class Send(msgspec.Struct):
    """Send bytes as they are. `tokens` counts the text in them; `states_usage` marks the bytes that
    state the usage of the whole answer, in numbers that are right.
    """

    data: bytes
    tokens: int = 0
    states_usage: bool = False


class StartBilling(msgspec.Struct):
    """Charge for the request from here on: an honest provider has begun to work."""

    input_tokens: int


class Pause(msgspec.Struct):
    """Send nothing for so many seconds."""

    seconds: float


class Repeat(msgspec.Struct):
    """Send the same bytes again and again, without holding all of them at once."""

    data: bytes
    times: int


class Reset(msgspec.Struct):
    """Cut the connection with a RST."""


class Close(msgspec.Struct):
    """Close the connection in order (FIN), whatever was announced."""


Step = Send | StartBilling | Pause | Repeat | Reset | Close
Steps = Iterator[Step]


class Script(msgspec.Struct, frozen=True):
    """Describe one fault by the steps that `play` makes; `name` begins with its id."""

    name: str
    play: Callable[[FaultRequest], Steps]
    about: str
