"""Search integrations for a catalog page, in memory."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from headgate.catalog.model.manifest import IntegrationManifest


class IntegrationFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Filter integrations; None does not restrict.

    `search` is a part of the text of an integration, or of the ids and names of its models and
    actions, case-insensitive.
    """

    category: str | None = None
    integration_type: str | None = None
    auth_type: str | None = None
    search: str | None = None


def browse(
    integrations: Iterable[IntegrationManifest], query: IntegrationFilter
) -> list[IntegrationManifest]:
    """Return the integrations that match: recommended ones first, then by popularity and name."""
    matching = [manifest for manifest in integrations if _matches(manifest, query)]
    return sorted(matching, key=_rank)


def _matches(manifest: IntegrationManifest, query: IntegrationFilter) -> bool:
    return (
        (query.category is None or query.category in manifest.categories)
        and query.integration_type in (None, manifest.integration_type)
        and (query.auth_type is None or query.auth_type in manifest.auth_types)
        and (query.search is None or _mentions(manifest, query.search.casefold().strip()))
    )


def _mentions(manifest: IntegrationManifest, needle: str) -> bool:
    texts = [manifest.name, manifest.display_name, manifest.description, *manifest.categories]
    for model in manifest.models:
        texts += (model.id, model.display_name, *model.aliases)
    for action in manifest.actions:
        texts += (action.name, action.display_name)
    return any(needle in text.casefold() for text in texts)


def _rank(manifest: IntegrationManifest) -> tuple[bool, int, str]:
    extra = manifest.extra_metadata
    return not extra.recommended, -extra.popularity_score, manifest.display_name.casefold()
