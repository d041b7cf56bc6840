"""Operations on resources, and the routes that calls take through them."""

from headgate.resources.service.compiled import CompiledResource
from headgate.resources.service.dry_runs import DryRuns
from headgate.resources.service.live_values import LiveValuesSource
from headgate.resources.service.resources import ResourceService
from headgate.resources.service.router import ResourceIndex, make_view
from headgate.resources.store.resources import TOPIC

__all__ = [
    "TOPIC",
    "CompiledResource",
    "DryRuns",
    "LiveValuesSource",
    "ResourceIndex",
    "ResourceService",
    "make_view",
]
