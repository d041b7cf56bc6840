"""Declare how a call reaches a provider that does not speak its client's API.

The converters are pure and know nothing of calls (`llm.convert`). `gateway.conversions` makes
conversions of them, `Routing` begins one where the provider needs it, and the pipeline lets it
stand between the provider's answer and the client.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Protocol

from headgate.llm.convert.losses import Losses
from headgate.llm.endpoint import Endpoint
from headgate.llm.request import JsonRequest
from headgate.relay.call import Caller
from headgate.relay.ports import Model


class Conversion(Protocol):
    """Convert one call and its answer: from the client's surface to the provider's, and back."""

    @property
    def endpoint(self) -> Endpoint:
        """Return the provider's endpoint: its path, its meter, its fields of output limits."""
        ...

    @property
    def losses(self) -> Losses:
        """Return what the request lost; complete after `convert_request`."""
        ...

    def convert_request(self, body: JsonRequest) -> JsonRequest:
        """Return the request as the provider's API wants it. Called once.

        Raise a `HeadgateError` of kind INVALID for what cannot be converted.
        """
        ...

    def wrap(self, caller: Caller, encoder: Any) -> tuple[Caller, Any]:
        """Return a caller and a `ResponseEncoder` that take the provider's answer, and give it
        converted to these. Called once, when the provider has answered."""
        ...

    def preview(self, data: bytes) -> bytes:
        """Return what the last bytes of the provider's stream become. They and what follows them
        are written afterwards all the same."""
        ...


class Conversions(Protocol):
    def begin(
        self, surface: str, surfaces: Container[str], model: Model | None
    ) -> Conversion | None:
        """Return a new conversion from this surface to one of those; None where there is none.
        `model` is None where the catalog does not know it."""
        ...
