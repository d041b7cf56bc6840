"""Choose the conversion of a call whose provider does not speak its client's API."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from headgate.gateway.chat_conversion import ChatToResponses
from headgate.gateway.responses_conversion import ResponsesToChat
from headgate.llm.endpoint import CHAT_COMPLETIONS, RESPONSES
from headgate.relay.conversion import Conversion
from headgate.relay.ports import Model

ConversionFactory = Callable[[Model | None], Conversion]
FACTORIES: Mapping[tuple[str, str], ConversionFactory] = {
    (CHAT_COMPLETIONS, RESPONSES): ChatToResponses,
    (RESPONSES, CHAT_COMPLETIONS): ResponsesToChat,
}
"""By the client's surface and the provider's."""


class ConversionTable:
    """Begin conversions (`relay.conversion.Conversions`)."""

    def __init__(self, factories: Mapping[tuple[str, str], ConversionFactory] = FACTORIES) -> None:
        self._factories = factories

    def begin(
        self, surface: str, surfaces: Container[str], model: Model | None
    ) -> Conversion | None:
        for (source, target), factory in self._factories.items():
            if source == surface and target in surfaces:
                return factory(model)
        return None
