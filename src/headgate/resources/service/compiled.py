"""Resources as calls use them: their models as targets, their rules compiled, all of it once."""

from __future__ import annotations

import msgspec

from headgate.relay.capacity_limits import read_limits
from headgate.relay.ports import DEFAULT_INTEGRATION
from headgate.relay.targets import CallRoute, Target
from headgate.resources.model.conditions import CHARACTERS_MAX, CompiledRouting
from headgate.resources.model.resource import ResourceConfig
from headgate.resources.model.slot import ModelSlot
from headgate.resources.service.live_values import RuleSubject

MILLISECONDS = 1_000


class CompiledResource:
    """Hold one resource for its calls. `id` is None for one that exists in a request only."""

    __slots__ = ("config", "created_at", "fallbacks", "id", "name", "route", "routing", "subject")

    def __init__(
        self,
        name: str,
        config: ResourceConfig,
        resource_id: str | None = None,
        *,
        created_at: float = 0.0,
        stored: CompiledResource | None = None,
        place: str = "routing",
        characters_max: int = CHARACTERS_MAX,
    ) -> None:
        """Compile a resource. The rules of a `stored` one that are the same are not compiled
        again. Raise `InvalidRoutingError`."""
        self.id = resource_id
        self.created_at = created_at
        self.name = name
        self.config = config
        self.routing: CompiledRouting | None = None
        known = None if stored is None else stored.routing
        if known is not None and config.routing == known.config:
            self.routing = known
        elif config.routing is not None and config.routing.enabled and config.routing.conditions:
            self.routing = CompiledRouting(config.routing, place, characters_max=characters_max)
        self.fallbacks: tuple[Target, ...] = ()
        if config.use_fallback:
            self.fallbacks = tuple(map(make_target, config.fallback_models))
        self.route = CallRoute(
            name,
            (make_target(config.model), *self.fallbacks),
            resource_id,
            {
                name: msgspec.Raw(msgspec.json.encode(value))
                for name, value in config.default_args.items()
            },
            read_limits(config.capacity) if config.enforce_capacity else (),
        )
        """The route of a call that no rule sends elsewhere."""
        self.subject = RuleSubject(config.model, resource_id or "", self.route.capacity)

    def make_route(self, first: Target) -> CallRoute:
        """Return the route of a call that another model shall answer first."""
        return msgspec.structs.replace(self.route, targets=(first, *self.fallbacks))


def make_target(slot: ModelSlot) -> Target:
    """Return the target that a slot describes. The provider is part of the model's spelling, except
    for the default one, whose addresses may have ids with slashes of their own."""
    provider = slot.provider or DEFAULT_INTEGRATION
    is_default = provider == DEFAULT_INTEGRATION
    return Target(
        slot.model if is_default else f"{provider}/{slot.model}",
        slot.credential_id or slot.credential_name,
        slot.max_retries,
        None if slot.timeout_ms is None else slot.timeout_ms / MILLISECONDS,
        tuple(
            (each.credential_id or each.credential_name or "", each.weight)
            for each in slot.credentials
        ),
        provider,
    )
