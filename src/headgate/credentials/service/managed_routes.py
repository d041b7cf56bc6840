"""Finds in memory which credential and model serve a managed model."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from headgate.credentials.model.credential import MANAGED_INTEGRATION
from headgate.credentials.model.managed_model import (
    ManagedModel,
    ManagedModelDisabledError,
)
from headgate.credentials.store import managed_models as store
from headgate.relay.ports import (
    DEFAULT_INTEGRATION,
    Credentials,
    ListedManagedModel,
    ManagedModelRoute,
)

CHAIN_MAX = 8
"""The most replacements that are followed from one model."""


class ManagedModelRouteTable:
    """Hold the routes of managed models (`relay.ports.ManagedModelRoutes`); `load` refreshes it."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._integrations: Mapping[str, str] = {}
        """The integration of each platform credential, by its id."""
        self._known: Mapping[str, ManagedModel] = {}
        self._serving: Mapping[str, ManagedModel | None] = {}
        self._default: ManagedModel | None = None

    def load(self, connection: sa.Connection) -> None:
        """Reload all managed models. Calls that run meanwhile use the previous state."""
        known = {managed.model_id: managed for managed in store.select_managed_models(connection)}
        self._serving = {
            managed.model_id: find_serving_model(managed, known) for managed in known.values()
        }
        self._default = next((each for each in known.values() if each.is_default), None)
        self._integrations = store.select_platform_credentials(connection)
        self._known = known

    def __len__(self) -> int:
        return len(self._known)

    def list(self) -> list[ListedManagedModel]:
        """Return the managed models that can be called now, ordered by model id."""
        return [
            ListedManagedModel(
                managed.model_id,
                managed.display_name,
                serving.model_id,
                serving.wire_id,
                serving.credential_id,
                managed.created_at,
                deprecated=managed.deprecated,
                integration=self._integrations.get(serving.credential_id, DEFAULT_INTEGRATION),
            )
            for managed in self._known.values()
            if (serving := self._serving.get(managed.model_id)) is not None and serving.enabled
        ]

    def find(self, model_id: str) -> ManagedModelRoute | None:
        """Return the route of a model, None for an unknown id. Raise `ManagedModelDisabledError`,
        and what the credential resolver raises."""
        if model_id not in self._known:
            return None
        serving = self._serving.get(model_id)
        if serving is None or not serving.enabled:
            message = (
                f"The model {model_id!r} is disabled. `GET /v1/models` lists the available models."
            )
            raise ManagedModelDisabledError(message, param="model", should_retry=False)
        credential = self._credentials.resolve(
            "", integration=MANAGED_INTEGRATION, name=serving.credential_id
        )
        return ManagedModelRoute(serving.model_id, serving.wire_id, credential)

    def default(self) -> ManagedModelRoute | None:
        """Return the route for unknown ids, None without a default."""
        return None if self._default is None else self.find(self._default.model_id)


def find_serving_model(
    managed: ManagedModel, known: Mapping[str, ManagedModel]
) -> ManagedModel | None:
    """Return the model itself, or the last of its replacements. None if the chain is a circle, is
    too long, or ends at an unknown model."""
    current: ManagedModel | None = managed
    for _ in range(CHAIN_MAX + 1):
        if current is None or not current.deprecated or current.replacement_id is None:
            return current
        current = known.get(current.replacement_id)
    return None
