"""Change which models an organization shows, and its default model. The caller commits."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.catalog.model.settings import (
    HIDDEN_MAX,
    InvalidOrganizationSettingError,
    LlmChoice,
    OrganizationSettings,
)
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.store import settings as store
from headgate.kit.clock import Clock

_NOTHING: frozenset[str] = frozenset()


class CatalogSettings:
    def __init__(self, catalog: Catalog, audit: AuditLog, clock: Clock) -> None:
        self._catalog = catalog
        self._audit = audit
        self._clock = clock
        self._hidden: Mapping[str, frozenset[str]] = {}

    def reload(self, connection: sa.Connection) -> None:
        """Load which models every organization hides, for `hidden`."""
        self._hidden = {
            organization_id: frozenset(model for model, shown in stated.items() if not shown)
            for organization_id, stated in store.select_visibility(connection).items()
        }

    def hidden(self, organization_id: str) -> frozenset[str]:
        """Return the models that an organization hides, from memory."""
        return self._hidden.get(organization_id, _NOTHING)

    def read(self, connection: sa.Connection, organization_id: str) -> OrganizationSettings:
        """Return the settings of an organization; the defaults if it has stored none."""
        return store.select_settings(connection, organization_id) or OrganizationSettings()

    def set_model_visibility(
        self,
        connection: sa.Connection,
        organization_id: str,
        visibility: Mapping[str, bool],
        *,
        by: Actor,
    ) -> OrganizationSettings:
        """Replace the map of shown and hidden models. Raise `InvalidOrganizationSettingError`."""
        if len(visibility) > HIDDEN_MAX:
            message = f"At most {HIDDEN_MAX} models can be named."
            raise InvalidOrganizationSettingError(message, param="llm_model_visibility")
        known = {each.id for each in self._catalog.models()}
        for model_id in visibility:
            if model_id not in known:
                message = f"The catalog has no model {model_id[:200]!r}."
                raise InvalidOrganizationSettingError(message, param="llm_model_visibility")
        before = self.read(connection, organization_id)
        after = OrganizationSettings(dict(visibility), before.composer_llm, before.version + 1)
        chosen = before.composer_llm
        if chosen is not None and after.is_hidden(chosen.model_id):
            message = f"{chosen.model_id} is the default model; choose another one first."
            raise InvalidOrganizationSettingError(message, param="llm_model_visibility")
        store.save_settings(connection, organization_id, after, now=self._clock.now())
        changes = {"hidden": sorted(model for model, shown in visibility.items() if not shown)}
        event = AuditEvent(
            "llm_model_visibility.changed", organization_id, organization_id, changes
        )
        self._audit.record(connection, by, event)
        return after

    def choose_default(
        self,
        connection: sa.Connection,
        organization_id: str,
        choice: LlmChoice | None,
        *,
        by: Actor,
    ) -> OrganizationSettings:
        """Set or clear the default model. Raise `InvalidOrganizationSettingError`.

        The caller checks that the credential belongs to the organization. A model id that the
        catalog does not know is accepted: it is sent to the provider unchanged.
        """
        before = self.read(connection, organization_id)
        if choice is not None:
            self._check(choice, before)
        after = OrganizationSettings(before.llm_model_visibility, choice, before.version + 1)
        store.save_settings(connection, organization_id, after, now=self._clock.now())
        event = AuditEvent(
            "composer_llm.changed", organization_id, organization_id, {"composer_llm": choice}
        )
        self._audit.record(connection, by, event)
        return after

    def _check(self, choice: LlmChoice, before: OrganizationSettings) -> None:
        manifest = self._catalog.integrations.get(choice.integration_name)
        if manifest is None or manifest.integration_type != "llm_provider":
            message = f"There is no LLM provider {choice.integration_name!r}."
            raise InvalidOrganizationSettingError(message, param="composer_llm.integration_name")
        if choice.provider_id != choice.integration_name:
            message = f"The provider of {choice.integration_name} is {choice.integration_name}."
            raise InvalidOrganizationSettingError(message, param="composer_llm.provider_id")
        if before.is_hidden(choice.model_id):
            message = f"{choice.model_id} is hidden in this organization; show it first."
            raise InvalidOrganizationSettingError(message, param="composer_llm.model_id")
