from __future__ import annotations

import pytest

from headgate.catalog.model.manifest import (
    AuthSchema,
    ExtraMetadata,
    IntegrationManifest,
    ModelEntry,
)
from headgate.catalog.service.browse import IntegrationFilter, browse

MANIFESTS = [
    IntegrationManifest(
        name="acme",
        display_name="Acme",
        integration_type="llm_provider",
        categories=("llm", "images"),
        auth_schemas=(AuthSchema("api_key", "Key"),),
        models=(ModelEntry("acme-1", "Acme One", aliases=("one",)),),
    ),
    IntegrationManifest(
        name="board",
        display_name="board",
        description="Cards for TEAMS.",
        integration_type="tool",
        categories=("work",),
        auth_schemas=(AuthSchema("oauth2", "Login"),),
        extra_metadata=ExtraMetadata(popularity_score=50),
    ),
    IntegrationManifest(
        name="shelf",
        display_name="Shelf",
        integration_type="knowledge_provider",
        extra_metadata=ExtraMetadata(recommended=True),
    ),
]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (IntegrationFilter(), ["shelf", "board", "acme"]),
        (IntegrationFilter(category="images"), ["acme"]),
        (IntegrationFilter(category="image"), []),
        (IntegrationFilter(integration_type="tool"), ["board"]),
        (IntegrationFilter(auth_type="oauth2"), ["board"]),
        (IntegrationFilter(search="teams"), ["board"]),
        (IntegrationFilter(search=" ONE "), ["acme"]),
        (IntegrationFilter(search="ACME-1"), ["acme"]),
        (IntegrationFilter(search="%"), []),
        (IntegrationFilter(search="_"), []),
        (IntegrationFilter(search="work", integration_type="llm_provider"), []),
    ],
)
def test_filters_narrow_and_the_best_come_first(query: IntegrationFilter, names: list[str]) -> None:
    assert [manifest.name for manifest in browse(MANIFESTS, query)] == names
