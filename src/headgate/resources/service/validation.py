"""Check the fields of a resource, and replace the names of credentials by their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import sqlalchemy as sa
from msgspec.structs import replace

from headgate.credentials.service.references import CredentialReference, list_references
from headgate.relay.ports import ModelCatalog
from headgate.resources.model.conditions import CompiledRouting
from headgate.resources.model.resource import (
    DESCRIPTION_CHARACTERS_MAX,
    InvalidResourceError,
    ResourceConfig,
    check_capacity,
    check_default_args,
)
from headgate.resources.model.slot import ModelSlot, WeightedCredential

ADVICE = "; `headgate credentials list` shows those there are"
SlotT = TypeVar("SlotT", bound=ModelSlot)
ReferenceT = TypeVar("ReferenceT", ModelSlot, WeightedCredential)


def check_config(
    connection: sa.Connection, organization_id: str, config: ResourceConfig, models: ModelCatalog
) -> ResourceConfig:
    """Return the resource as it is stored: each credential by its id, each model with its provider.

    Raise `InvalidResourceError` and `InvalidRoutingError`, which name the place of what is wrong.
    """
    check_default_args(config.default_args)
    check_capacity(config.capacity)
    resolver = _SlotResolver(list_references(connection, organization_id), models.providers)
    config = replace(
        config,
        model=resolver.resolve(config.model, "model"),
        fallback_models=resolver.resolve_all(config.fallback_models, "fallback_models"),
        secondary_models=resolver.resolve_all(config.secondary_models, "secondary_models"),
    )
    routing = config.routing
    if routing is None:
        return config
    CompiledRouting(routing)
    rules = tuple(
        rule
        if rule.then is None
        else replace(rule, then=resolver.resolve(rule.then, f"routing.conditions[{index}].then"))
        for index, rule in enumerate(routing.conditions)
    )
    return replace(config, routing=replace(routing, conditions=rules))


def check_description(description: str | None) -> str | None:
    """Return a description; None for an empty one. Raise `InvalidResourceError`."""
    if description and (len(description) > DESCRIPTION_CHARACTERS_MAX or "\0" in description):
        message = f"A description has at most {DESCRIPTION_CHARACTERS_MAX} characters of text."
        raise InvalidResourceError(message, param="description")
    return description or None


class _SlotResolver:
    """Find the credentials of slots among those that an organization can use."""

    def __init__(self, references: Sequence[CredentialReference], providers: Sequence[str]) -> None:
        self._by_id: Mapping[str, CredentialReference] = {each.id: each for each in references}
        self._references = references
        self._providers = providers

    def resolve_all(self, slots: Sequence[SlotT], place: str) -> tuple[SlotT, ...]:
        return tuple(self.resolve(slot, f"{place}[{index}]") for index, slot in enumerate(slots))

    def resolve(self, slot: SlotT, place: str) -> SlotT:
        """Return a slot with the ids of its credentials and its provider."""
        if slot.provider and slot.provider not in self._providers:
            known = ", ".join(self._providers)
            raise _refuse(f"{place}.provider", f"there is no provider {slot.provider!r} of {known}")
        used: list[CredentialReference] = []
        if slot.credential_id is not None or slot.credential_name is not None:
            used.append(self._find(slot, place))
            slot = replace(slot, credential_id=used[0].id, credential_name=None)
        weighted: list[WeightedCredential] = []
        for index, each in enumerate(slot.credentials):
            found = self._find(each, f"{place}.credentials[{index}]")
            used.append(found)
            weighted.append(replace(each, credential_id=found.id, credential_name=None))
        slot = replace(slot, credentials=tuple(weighted))
        for each in used:
            if slot.provider and slot.provider != each.integration:
                reason = (
                    f"the credential {each.name!r} is of the provider {each.integration}, and not "
                    f"of {slot.provider}"
                )
                raise _refuse(f"{place}.provider", reason)
            slot = replace(slot, provider=each.integration)
        return slot

    def _find(self, slot: ModelSlot | WeightedCredential, place: str) -> CredentialReference:
        """Return the credential of a slot; its id wins over its name."""
        if slot.credential_id is not None:
            found = self._by_id.get(slot.credential_id)
            if found is None:
                reason = f"there is no credential {slot.credential_id!r}{ADVICE}"
                raise _refuse(f"{place}.credential_id", reason)
            return found
        name = slot.credential_name
        place = f"{place}.credential_name"
        if name is None:
            raise _refuse(place, "a credential is named by its id or its name")
        named = [each for each in self._references if each.name == name]
        named = [each for each in named if not each.managed] or named
        if len(named) == 1:
            return named[0]
        if named:
            raise _refuse(place, f"{len(named)} credentials are named {name!r}; give the id")
        raise _refuse(place, f"there is no credential {name!r}{ADVICE}")


def _refuse(place: str, reason: str) -> InvalidResourceError:
    return InvalidResourceError(f"Invalid '{place}': {reason}.", param=place)
