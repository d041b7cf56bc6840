"""Attaches models that the platform sells to its own credentials. The caller commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import check_name
from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.credentials.model.managed_model import (
    MODEL_ID,
    InvalidManagedModelError,
    ManagedModel,
    ManagedModelChange,
    ManagedModelConflictError,
    ManagedModelNotFoundError,
    ManagedModelRequest,
)
from headgate.credentials.service.managed_routes import CHAIN_MAX, find_serving_model
from headgate.credentials.store import managed_models as managed_store
from headgate.kit.clock import Clock
from headgate.kit.ids import IdGenerator
from headgate.relay.ports import DEFAULT_INTEGRATION, ModelCatalog
from headgate.vault.service import note_change

MANAGED_MODELS_MAX = 1_000


class ManagedModelService:
    """Manage the models that the platform sells; the catalog has their prices."""

    def __init__(
        self, *, models: ModelCatalog, audit: AuditLog, clock: Clock, ids: IdGenerator
    ) -> None:
        self._models = models
        self._audit = audit
        self._clock = clock
        self._ids = ids

    def list(self, connection: sa.Connection) -> list[ManagedModel]:
        """Return all managed models, ordered by model id."""
        return managed_store.select_managed_models(connection)

    def find(self, connection: sa.Connection, reference: str) -> ManagedModel:
        """Find a managed model by its own id or by its model id. Raise
        `ManagedModelNotFoundError`."""
        for managed in self.list(connection):
            if reference in (managed.id, managed.model_id):
                return managed
        message = f"There is no managed model {reference!r}; `headgate models list` shows all."
        raise ManagedModelNotFoundError(message, param="model")

    def attach(
        self, connection: sa.Connection, request: ManagedModelRequest, *, by: Actor
    ) -> ManagedModel:
        """Sell a model through a platform credential. Raise `InvalidManagedModelError`,
        `ManagedModelConflictError` and `InvalidNameError`."""
        known = self.list(connection)
        credential_id, integration = self._find_credential(connection, request.credential)
        self._refuse_unpriced(request.model_id, request.wire_id, integration)
        if any(managed.model_id == request.model_id for managed in known):
            message = (
                f"{request.model_id!r} is a managed model already. Change it, or detach it first."
            )
            raise ManagedModelConflictError(message, param="model_id")
        if len(known) >= MANAGED_MODELS_MAX:
            message = f"There are {MANAGED_MODELS_MAX} managed models, which is the maximum."
            raise ManagedModelConflictError(message)
        now = self._clock.now()
        managed = ManagedModel(
            id=self._ids.make("mm"),
            model_id=request.model_id,
            credential_id=credential_id,
            wire_id=request.wire_id,
            display_name=_check_display_name(request.display_name or request.model_id),
            deprecated=False,
            replacement_id=None,
            is_default=request.is_default,
            enabled=True,
            created_at=now,
            updated_at=now,
        )
        if managed.is_default:
            managed_store.clear_managed_default(connection)
        managed_store.insert_managed_model(connection, managed)
        fields = {name: getattr(managed, name) for name in ("model_id", "credential_id", "wire_id")}
        self._note(connection, by, "managed_model.attached", managed.id, fields)
        return managed

    def change(
        self,
        connection: sa.Connection,
        managed: ManagedModel,
        change: ManagedModelChange,
        *,
        by: Actor,
    ) -> ManagedModel:
        """Update a managed model; write nothing if nothing differs. Raise as `attach`, and
        `ManagedModelConflictError` if it was changed since it was read."""
        values = self._read_change(connection, managed, change)
        different = {
            name: value for name, value in values.items() if getattr(managed, name) != value
        }
        if not different:
            return managed
        changed = msgspec.structs.replace(
            managed, **different, updated_at=self._clock.now(), version=managed.version + 1
        )
        integrations = managed_store.select_platform_credentials(connection, changed.credential_id)
        integration = integrations.get(changed.credential_id, DEFAULT_INTEGRATION)
        self._refuse_unpriced(changed.model_id, changed.wire_id, integration)
        self._check_replacement(connection, changed)
        if different.get("is_default"):
            managed_store.clear_managed_default(connection)
        if not managed_store.update_managed_model(connection, changed):
            raise ManagedModelConflictError(
                "The managed model was changed by somebody else. Read it again."
            )
        self._note(connection, by, "managed_model.changed", managed.id, different)
        return changed

    def detach(self, connection: sa.Connection, managed: ManagedModel, *, by: Actor) -> None:
        """Stop selling a model. Raise `ManagedModelConflictError` while it replaces another one."""
        replaced = [
            each.model_id
            for each in self.list(connection)
            if each.replacement_id == managed.model_id and each.id != managed.id
        ]
        if replaced:
            message = f"{managed.model_id!r} replaces {', '.join(replaced)}; change that first."
            raise ManagedModelConflictError(message)
        managed_store.delete_managed_model(connection, managed.id)
        fields = {"model_id": managed.model_id, "credential_id": managed.credential_id}
        self._note(connection, by, "managed_model.detached", managed.id, fields)

    def _read_change(
        self, connection: sa.Connection, managed: ManagedModel, change: ManagedModelChange
    ) -> dict[str, Any]:
        values = {
            name: value
            for name in change.__struct_fields__
            if (value := getattr(change, name)) is not msgspec.UNSET
        }
        if "credential" in values:
            reference = values.pop("credential")
            values["credential_id"], _ = self._find_credential(connection, reference)
        if "display_name" in values:
            values["display_name"] = _check_display_name(values["display_name"])
        if not values.get("deprecated", managed.deprecated):
            if values.get("replacement_id") is not None:
                message = "Only a deprecated model can have a replacement. Set deprecated as well."
                raise InvalidManagedModelError(message, param="replacement_id")
            values["replacement_id"] = None
        return values

    def _refuse_unpriced(self, model_id: str, wire_id: str, integration: str) -> None:
        """Raise unless the model has a price and bounds: a managed call reserves its maximum
        cost."""
        for name, value in (("model_id", model_id), ("wire_id", wire_id or model_id)):
            if not MODEL_ID.fullmatch(value):
                message = "A model id must be 1 to 256 printable ASCII characters without spaces."
                raise InvalidManagedModelError(message, param=name)
        models = self._models
        model = models.find(wire_id, integration) or models.find(model_id, integration)
        price = None
        if model is not None:
            price = models.price(model.id, self._clock.now(), integration)
        bound = None if price is None else price.bound(1, 1, None)
        if model is None or bound is None or not model.input_tokens_max:
            named = model_id if not wire_id else f"{model_id!r} or {wire_id!r}"
            message = (
                f"The catalog has no {integration} model {named} with a price per token and a "
                "known context window, so calls to it cannot be paid in credits."
            )
            raise InvalidManagedModelError(message, param="model_id")

    def _check_replacement(self, connection: sa.Connection, changed: ManagedModel) -> None:
        """Raise unless every chain of replacements ends within `CHAIN_MAX` steps."""
        known = {managed.model_id: managed for managed in self.list(connection)}
        known[changed.model_id] = changed
        if changed.replacement_id is not None and changed.replacement_id not in known:
            message = f"The replacement {changed.replacement_id!r} is not a managed model."
            raise InvalidManagedModelError(message, param="replacement_id")
        for managed in known.values():
            if find_serving_model(managed, known) is None:
                message = (
                    f"The replacements of {managed.model_id!r} form a circle, or a chain of more "
                    f"than {CHAIN_MAX} models."
                )
                raise InvalidManagedModelError(message, param="replacement_id")

    def _find_credential(self, connection: sa.Connection, reference: str) -> tuple[str, str]:
        """Return id and integration of the platform credential of that id or name."""
        found = [
            (credential_id, integration)
            for credential_id, integration in managed_store.select_platform_credentials(
                connection, reference
            ).items()
            if integration in self._models.providers
        ]
        exact = [each for each in found if each[0] == reference] or found
        if len(exact) == 1:
            return exact[0]
        many = f"{len(exact)} of the platform's credentials are named {reference!r}; give the id."
        none = (
            f"The platform has no credential {reference!r} of its own. Add one with: "
            f"headgate credentials add {DEFAULT_INTEGRATION} --managed"
        )
        raise InvalidManagedModelError(many if exact else none, param="credential")

    def _note(
        self,
        connection: sa.Connection,
        by: Actor,
        action: str,
        managed_id: str,
        changes: Mapping[str, Any],
    ) -> None:
        note_change(connection)
        self._audit.record(connection, by, AuditEvent(action, None, managed_id, dict(changes)))


def _check_display_name(name: str) -> str:
    return check_name(name, param="display_name")
