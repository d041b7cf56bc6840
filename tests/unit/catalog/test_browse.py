from __future__ import annotations

import pytest

from headgate.catalog.model import IntegrationManifest
from headgate.catalog.model.manifest import AuthSchema, ExtraMetadata, ModelEntry
from headgate.catalog.service import BrowseQuery, browse

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
        (BrowseQuery(), ["shelf", "board", "acme"]),
        (BrowseQuery(category="images"), ["acme"]),
        (BrowseQuery(category="image"), []),
        (BrowseQuery(integration_type="tool"), ["board"]),
        (BrowseQuery(auth_type="oauth2"), ["board"]),
        (BrowseQuery(search="teams"), ["board"]),
        (BrowseQuery(search=" ONE "), ["acme"]),
        (BrowseQuery(search="ACME-1"), ["acme"]),
        (BrowseQuery(search="%"), []),
        (BrowseQuery(search="_"), []),
        (BrowseQuery(search="work", integration_type="llm_provider"), []),
    ],
)
def test_filters_narrow_and_the_best_come_first(query: BrowseQuery, names: list[str]) -> None:
    assert [manifest.name for manifest in browse(MANIFESTS, query)] == names
