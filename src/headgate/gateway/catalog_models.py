"""List the models of the further integrations, from the catalog.

The list of one provider does not name another provider's models. An organization with credentials
of several integrations gets the catalog's models of the others after the default provider's own
list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from headgate.gateway import listing
from headgate.gateway.model_metadata import ModelMetadata
from headgate.kit.clock import Clock
from headgate.relay.admission import is_any_in_scope
from headgate.relay.ports import DEFAULT_INTEGRATION, Credential, Credentials, Grant, ModelMatch

RENDERED_SECONDS = 10.0
"""Metadata is rendered again after this: the price or the latency may have changed."""
RENDERED_MAX = 1_000
"""Credentials whose rows are cached."""


class ListingCatalog(Protocol):
    """Look up model ids; the part of the catalog that lists need."""

    @property
    def providers(self) -> Sequence[str]: ...

    def match(self, name: str, integration: str | None = None) -> ModelMatch: ...

    def list_ids(self, integration: str) -> Sequence[str]:
        """Return the ids of an integration's models, without aliases."""
        ...


class _RenderedModels(msgspec.Struct, frozen=True):
    credential: Credential
    at: float
    rows: Sequence[tuple[ModelMatch, str, bytes]]


class CatalogModels:
    """List and find models of integrations whose provider is not asked for its list."""

    def __init__(
        self,
        catalog: ListingCatalog,
        credentials: Credentials,
        metadata: ModelMetadata,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._credentials = credentials
        self._metadata = metadata
        self._clock = clock
        self._rendered: dict[str, _RenderedModels] = {}

    def is_visible(self, model_id: str, grant: Grant, integration: str | None) -> bool:
        """Return whether a key that is limited to models or resources may see a model. Models match
        in any spelling, resources by their exact name."""
        if grant.resources and model_id not in grant.resources:
            return False
        if not grant.models:
            return True
        return is_any_in_scope(self._catalog.match(model_id, integration).names, grant.models)

    def is_hidden(self, model_id: str, hidden: frozenset[str]) -> bool:
        """Return whether an organization hides a model, in any spelling."""
        return model_id in hidden or self._catalog.match(model_id).model_id in hidden

    def list(self, grant: Grant, but: str, hidden: frozenset[str]) -> list[bytes]:
        """Return the rows that a key may see, of every integration except `but` with an own
        credential."""
        rows: list[bytes] = []
        for integration in self._catalog.providers:
            if integration == but:
                continue
            credential = self._credentials.peek(grant.organization_id, integration)
            if credential is not None:
                rows += [
                    row
                    for match, shown_id, row in self._render(credential)
                    if match.model_id not in hidden
                    and is_any_in_scope(match.names, grant.models)
                    and (not grant.resources or shown_id in grant.resources)
                ]
        return rows

    def find(self, organization_id: str, wanted: str) -> bytes | None:
        """Return one model of a further integration; None if unknown or without a credential."""
        match = self._catalog.match(wanted)
        if match.integration == DEFAULT_INTEGRATION or match.model is None:
            return None
        credential = self._credentials.peek(organization_id, match.integration)
        return None if credential is None else self._write(match, wanted, credential)

    def _render(self, credential: Credential) -> Sequence[tuple[ModelMatch, str, bytes]]:
        now = self._clock.monotonic()
        rendered = self._rendered.get(credential.id)
        if (
            rendered is None
            or rendered.credential != credential
            or now - rendered.at >= RENDERED_SECONDS
        ):
            if len(self._rendered) >= RENDERED_MAX:
                self._rendered.clear()
            matches = [
                self._catalog.match(model_id, credential.integration)
                for model_id in self._catalog.list_ids(credential.integration)
            ]
            # The shortest name that means this model: the bare id, unless it means another one.
            rows = [
                (match, shown_id, self._write(match, shown_id, credential))
                for match in matches
                for shown_id in (min(match.names, key=len),)
            ]
            rendered = self._rendered[credential.id] = _RenderedModels(credential, now, rows)
        return rendered.rows

    def _write(self, match: ModelMatch, shown_id: str, credential: Credential) -> bytes:
        metadata = self._metadata.render(match.model_id, credential)
        return listing.write_owned(shown_id, 0.0, metadata, owner=credential.integration)
