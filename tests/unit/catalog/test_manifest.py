from __future__ import annotations

import re
from pathlib import Path

import pytest

from headgate.catalog.model.manifest import IntegrationManifest, InvalidCatalogError
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.store.files import read_manifest
from headgate.relay.ports import Deadlines

NOW = 1_795_000_000.0

ACME = """
name = "acme"
display_name = "Acme AI"
integration_type = "llm_provider"

[[auth_schema]]
auth_type = "api_key"
display_name = "API key"

[[auth_schema.variable]]
name = "api_key"
display_name = "API key"

[[auth_schema.variable]]
name = "base_url"
display_name = "Base URL"
required = false
sensitive = false
default = "https://api.acme.example/v1"

[[model]]
id = "acme-large"
display_name = "Acme Large"
wire_id = "large-2026"
input_tokens_max = 64_000

[[model]]
id = "gpt-5.4"
display_name = "Their copy of another's model"

[[price]]
model = "acme-large"
effective_from = 2026-06-01
source = "https://acme.example/pricing"
input = "0.3"
output = "1.2"

[[price]]
model = "gpt-5.4"
effective_from = 2026-06-01
source = "https://acme.example/pricing"
input = "99"
"""

TOOL = """
name = "board"
display_name = "Board"
integration_type = "tool"

[[action]]
name = "post_card"
display_name = "Post a card"
"""


@pytest.fixture(scope="module")
def openai() -> IntegrationManifest:
    return Catalog.load().integrations["openai"]


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


def test_openai_has_one_api_key_schema_with_two_variables(openai: IntegrationManifest) -> None:
    [schema] = openai.auth_schemas
    assert schema.auth_type == "api_key"
    assert schema.setup_instructions
    api_key, base_url = schema.variables
    assert (api_key.name, api_key.required, api_key.sensitive) == ("api_key", True, True)
    assert api_key.pattern == r"^sk-[a-zA-Z0-9\-_]{20,}$"
    assert (base_url.name, base_url.required, base_url.sensitive) == ("base_url", False, False)
    assert (base_url.pattern, base_url.default) == (r"^https?://.*", "https://api.openai.com/v1")
    assert openai.docs_url == "https://platform.openai.com/docs"
    assert openai.default_model == "gpt-4.1"
    assert openai.extra_metadata.status == "active"
    test = schema.test_endpoint
    assert (test.method, test.url) == ("POST", "{base_url}/chat/completions")
    assert (test.body["model"], test.body["max_tokens"]) == ("gpt-5.4-mini", 10)
    assert test.success_indicators.status_codes == (200,)
    assert test.success_indicators.response_fields == ("id", "choices", "model")


def test_what_the_vault_needs_is_derived_from_the_schema(openai: IntegrationManifest) -> None:
    assert openai.base_url == "https://api.openai.com/v1"
    assert (openai.secret_header, openai.secret_header_prefix) == ("authorization", "Bearer ")
    assert openai.organization_header == "openai-organization"
    assert re.fullmatch(openai.secret_pattern, "sk-proj-0123456789abcdefWXYZ")
    assert not re.fullmatch(openai.secret_pattern, "sk-short")
    assert "sk-proj-" in openai.secret_prefixes
    assert openai.test_call.path == "/chat/completions"


def test_scores_are_from_one_to_five_and_replacements_exist(openai: IntegrationManifest) -> None:
    assert all(model.capabilities for model in openai.models)
    for model in openai.models:
        assert model.supports_vision == ("vision" in model.capabilities), model.id
        assert ("embeddings" in model.capabilities) == (
            model.dimensions > 0 or model.id == "text-embedding-ada-002"
        ), model.id
    assert not any(model.deprecated for model in openai.models)


def test_model_can_have_deadlines_of_its_own(tmp_path: Path) -> None:
    entry = 'wire_id = "large-2026"\nfirst_byte_seconds = 1_800\naliases = ["large"]'
    catalog = Catalog.load(write(tmp_path, acme=ACME.replace('wire_id = "large-2026"', entry)))
    for name in ("acme-large", "acme/large", "acme-large-2026-07-01"):
        model = catalog.match(name, "acme").model
        assert model is not None
        assert model.deadlines == Deadlines(first_byte_seconds=1_800)
    other = catalog.find("gpt-5.4", "acme")
    assert other is not None
    assert other.deadlines is None


@pytest.mark.parametrize("name", ["first_byte_seconds", "idle_seconds", "total_seconds"])
@pytest.mark.parametrize("value", ["0", "86_401", "nan", "inf", '"60"', "true"])
def test_deadline_out_of_bounds_is_refused_with_its_place(
    tmp_path: Path, name: str, value: str
) -> None:
    text = ACME.replace('wire_id = "large-2026"', f"{name} = {value}")
    with pytest.raises(InvalidCatalogError, match=rf"acme.toml: .*\$.model\[0\].{name}"):
        Catalog.load(write(tmp_path, acme=text))


def test_operators_provider_needs_an_address_models_and_prices_only(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path, acme=ACME))
    acme = catalog.integrations["acme"]
    assert acme.base_url == "https://api.acme.example/v1"
    assert (acme.secret_header, acme.secret_header_prefix) == ("authorization", "Bearer ")
    assert (acme.secret_pattern, acme.organization_header) == (".+", "")
    assert (acme.test_call.method, acme.test_call.path) == ("GET", "/models")
    model = catalog.find("acme-large")
    assert model is not None
    assert (model.wire_id, model.input_tokens_max) == ("large-2026", 64_000)
    price = catalog.price("acme-large", NOW)
    assert price is not None
    assert price.id == "acme/acme-large@2026-06-01"


def test_bare_id_is_that_of_the_first_integration(tmp_path: Path) -> None:
    catalog = Catalog.load(write(tmp_path, acme=ACME))
    ours, theirs = catalog.price("gpt-5.4", NOW), catalog.price_at("acme", "gpt-5.4", NOW)
    assert ours is not None
    assert theirs is not None
    assert ours.id.startswith("openai/gpt-5.4@")
    assert theirs.tiers["default"][0].input == 99 * 10**9
    assert catalog.price_at("openai", "gpt-5.4", NOW) is ours
    assert catalog.price_at("acme", "gpt-5.4-mini", NOW) is None
    entry = catalog.entry("openai", "gpt-5.5-codex")
    assert entry is not None
    assert entry.id == "gpt-5.5"
    assert catalog.entry("acme", "gpt-5.5") is None


def test_tool_has_actions_and_no_models(tmp_path: Path) -> None:
    board = Catalog.load(write(tmp_path, board=TOOL)).integrations["board"]
    assert [action.name for action in board.actions] == ["post_card"]
    assert (board.base_url, board.secret_header, list(board.auth_types)) == ("", "", [])


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('name = "acme"', 'name = "Acme"', r"regex.*\$\.name"),
        ('name = "acme"', 'name = "openai"', "two integrations named openai"),
        ('"llm_provider"', '"llm"', r"\$\.integration_type"),
        ('"llm_provider"', '"tool"', "has actions, not models"),
        ('auth_type = "api_key"', 'auth_type = "password"', r"\$\.auth_schema\[0\]\.auth_type"),
        ('name = "base_url"', 'name = "api_key"', "two variables"),
        ("required = false", "require = false", r"`require`.*\$\.auth_schema\[0\]\.variable\[1\]"),
        ("required = false", 'pattern = "("', "not a regular expression"),
        ('display_name = "API key"\n', 'display_name = "API key"\nheaders = {}\n', "exactly one"),
        ('wire_id = "large-2026"', "intelligence = 6", r"<= 5.*\$\.model\[0\]\.intelligence"),
        ('wire_id = "large-2026"', 'capabilities = ["magic"]', r"\$\.model\[0\]\.capabilities"),
        ('wire_id = "large-2026"', 'replacement_id = "none"', "there is no model none"),
        ('wire_id = "large-2026"', 'aliases = ["gpt-5.4"]', "gpt-5.4 is defined twice"),
        ('input = "0.3"', 'input = "cheap"', r"\$\.price\[0\]\.input"),
        ('input = "0.3"', 'inputs = "0.3"', r"`inputs`.*\$\.price\[0\]"),
        ('"Acme AI"', '"Acme AI"\ndefault_model = "other"', "no default model other"),
    ],
)
def test_mistake_in_a_file_is_told_with_its_place(
    tmp_path: Path, before: str, after: str, reason: str
) -> None:
    assert before in ACME
    folder = write(tmp_path, acme=ACME.replace(before, after, 1))
    with pytest.raises(InvalidCatalogError, match=reason):
        Catalog.load(folder)


def test_folder_and_file_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidCatalogError, match="none is not a directory"):
        Catalog.load(tmp_path / "none")
    with pytest.raises(InvalidCatalogError, match=r"acme\.toml cannot be read"):
        read_manifest(tmp_path / "acme.toml")


def test_two_schemas_of_one_type_are_refused(tmp_path: Path) -> None:
    twice = ACME + '\n[[auth_schema]]\nauth_type = "api_key"\ndisplay_name = "Again"\n'
    with pytest.raises(InvalidCatalogError, match="same auth_type"):
        Catalog.load(write(tmp_path, acme=twice))


def test_llm_provider_has_no_actions(tmp_path: Path) -> None:
    text = ACME + '\n[[action]]\nname = "act"\ndisplay_name = "Act"\n'
    with pytest.raises(InvalidCatalogError, match="models, not actions"):
        Catalog.load(write(tmp_path, acme=text))
