"""What the files of other providers than OpenAI say, and what they leave as it was."""

from __future__ import annotations

import msgspec
import pytest

from headgate.catalog.model.manifest import EndpointFields, InvalidCatalogError
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.store.files import DATA, read_manifest
from headgate.relay.ports import DEFAULT_INTEGRATION

CATALOG = Catalog.load()
OTHERS = [name for name in CATALOG.providers if name != DEFAULT_INTEGRATION]
NOW = 1_796_000_000.0


def test_each_provider_names_its_address_its_key_and_its_reference() -> None:
    assert len(OTHERS) == 8
    for name in OTHERS:
        manifest = CATALOG.integrations[name]
        assert manifest.docs_url, name
        assert manifest.secret_header in ("authorization", "api-key")
        assert manifest.base_url.startswith(("https://", "http://127.0.0.1:")) == (
            name != "azure_openai"
        )
        assert manifest.test_call.method == "GET"


def test_bare_ids_of_openai_stay_openais() -> None:
    for model_id in CATALOG.list_ids(DEFAULT_INTEGRATION):
        assert CATALOG.match(model_id).integration == DEFAULT_INTEGRATION


def test_bare_id_of_another_provider_goes_to_openai_where_nobody_else_has_a_credential() -> None:
    """A server with OpenAI's integration and its own address may have such ids itself."""
    match = CATALOG.match("llama-3.3-70b-versatile")
    assert match.integration == "groq"
    last = match.others[-1]
    assert (last.integration, last.wire_id, last.model) == ("openai", match.model_id, None)
    assert match.model_id in last.names


def test_id_that_a_provider_writes_with_a_prefix_has_none_here() -> None:
    match = CATALOG.match("gpt-oss-120b")
    assert (match.integration, match.wire_id) == ("groq", "openai/gpt-oss-120b")
    assert CATALOG.match("openai/gpt-oss-120b").integration == "openai"
    nested = CATALOG.match("openrouter/vendor/model")
    assert (nested.integration, nested.wire_id) == ("openrouter", "vendor/model")


def test_deployment_with_the_name_of_its_model_has_its_price_and_limits() -> None:
    model = CATALOG.find("gpt-4.1")
    assert model is not None
    assert CATALOG.find("gpt-4.1", "azure_openai") == msgspec.structs.replace(
        model, integration="azure_openai"
    )
    theirs = CATALOG.price("gpt-4.1", NOW, "openai")
    ours = CATALOG.price("gpt-4.1", NOW, "azure_openai")
    assert theirs is not None
    assert ours is not None
    assert ours.tiers == theirs.tiers


@pytest.mark.parametrize("name", ["groq", "mistral", "gemini"])
def test_every_listed_model_has_a_price(name: str) -> None:
    for model_id in CATALOG.list_ids(name):
        assert CATALOG.price(model_id, NOW, name) is not None, model_id


def test_fields_of_an_unknown_endpoint_are_refused() -> None:
    manifest = read_manifest(DATA / "groq.toml")
    with pytest.raises(ValueError, match="unknown endpoint chat"):
        msgspec.structs.replace(manifest, fields={"chat": EndpointFields()}).__post_init__()


def test_models_of_an_unknown_integration_are_refused() -> None:
    manifest = msgspec.structs.replace(read_manifest(DATA / "groq.toml"), models_from="nobody")
    with pytest.raises(InvalidCatalogError, match="there is no integration nobody"):
        Catalog([manifest])
