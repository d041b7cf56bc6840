"""Models that are listed from the catalog: those of further integrations that a call can name.

The list of one provider says nothing of another one's models. An organization with credentials of
several integrations sees the catalog's models of the others beside the default provider's own list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from headgate.gateway import listing
from headgate.gateway.cards import Cards
from headgate.kit.clock import Clock
from headgate.relay.admission import is_any_in_scope
from headgate.relay.ports import DEFAULT_INTEGRATION, Credential, Credentials, Grant, ModelMatch

DRAWN_SECONDS = 10.0
"""Cards are drawn anew after this: a price may have come into force, a latency been measured."""
DRAWN_MAX = 1_000
"""Credentials whose rows are kept."""


class Catalog(Protocol):
    """The catalog, as far as lists need it."""

    @property
    def providers(self) -> Sequence[str]:
        """See `relay.ports.Models`."""
        ...

    def match(self, name: str, integration: str | None = None) -> ModelMatch:
        """See `relay.ports.Models`."""
        ...

    def list_ids(self, integration: str) -> Sequence[str]:
        """The ids of an integration's models, without aliases."""
        ...


class _Drawn(msgspec.Struct, frozen=True):
    credential: Credential
    at: float
    rows: Sequence[tuple[ModelMatch, str, bytes]]


class CatalogModels:
    """Lists and finds models of integrations whose provider is not asked for its list."""

    def __init__(
        self, catalog: Catalog, credentials: Credentials, cards: Cards, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._credentials = credentials
        self._cards = cards
        self._clock = clock
        self._drawn: dict[str, _Drawn] = {}

    def is_visible(self, model_id: str, grant: Grant, integration: str | None) -> bool:
        """Whether a key that is limited to some models or resources may see one. Models are meant
        however they are spelled, resources as they are named."""
        if grant.resources and model_id not in grant.resources:
            return False
        if not grant.models:
            return True
        return is_any_in_scope(self._catalog.match(model_id, integration).names, grant.models)

    def is_hidden(self, model_id: str, hidden: frozenset[str]) -> bool:
        """Whether a model is one that its organization hides, however it is spelled."""
        return model_id in hidden or self._catalog.match(model_id).model_id in hidden

    def list(self, grant: Grant, but: str, hidden: frozenset[str]) -> list[bytes]:
        """The models of every integration except `but` for which there is an own credential, as
        far as a key may see them."""
        rows: list[bytes] = []
        for integration in self._catalog.providers:
            if integration == but:
                continue
            credential = self._credentials.peek(grant.organization_id, integration)
            if credential is not None:
                rows += [
                    row
                    for match, shown_id, row in self._draw(credential)
                    if match.model_id not in hidden
                    and is_any_in_scope(match.names, grant.models)
                    and (not grant.resources or shown_id in grant.resources)
                ]
        return rows

    def find(self, organization_id: str, wanted: str) -> bytes | None:
        """One model of another integration than the default one; None where there is none, or no
        credential for it."""
        match = self._catalog.match(wanted)
        if match.integration == DEFAULT_INTEGRATION or match.model is None:
            return None
        credential = self._credentials.peek(organization_id, match.integration)
        return None if credential is None else self._write(match, wanted, credential)

    def _draw(self, credential: Credential) -> Sequence[tuple[ModelMatch, str, bytes]]:
        now = self._clock.monotonic()
        drawn = self._drawn.get(credential.id)
        if drawn is None or drawn.credential != credential or now - drawn.at >= DRAWN_SECONDS:
            if len(self._drawn) >= DRAWN_MAX:
                self._drawn.clear()
            matches = [
                self._catalog.match(model_id, credential.integration)
                for model_id in self._catalog.list_ids(credential.integration)
            ]
            # The shortest spelling that leads there: the bare id, unless that means another model.
            rows = [
                (match, shown_id, self._write(match, shown_id, credential))
                for match in matches
                for shown_id in (min(match.names, key=len),)
            ]
            drawn = self._drawn[credential.id] = _Drawn(credential, now, rows)
        return drawn.rows

    def _write(self, match: ModelMatch, shown_id: str, credential: Credential) -> bytes:
        card = self._cards.draw(match.model_id, credential)
        return listing.write_owned(shown_id, 0.0, card, owner=credential.integration)
