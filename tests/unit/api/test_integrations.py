from __future__ import annotations

from typing import Any

import pytest

from headgate.audit.model import SYSTEM
from headgate.credentials.model.credential import CredentialRequest
from tests.fakes.api import OPERATOR_KEY, Api

VISIBILITY = "/api/organizations/settings/llm-model-visibility"
COMPOSER = "/api/organizations/settings/composer-llm"
CHOICE = {"integration_name": "openai", "provider_id": "openai", "model_id": "gpt-4.1"}
LLM_NAMES = [
    *("openai", "gemini", "azure_openai", "openrouter", "groq", "mistral", "ollama", "vllm"),
    *("lm_studio", "acme"),
]
ALL_NAMES = [*LLM_NAMES[:6], "brave_search", *LLM_NAMES[6:], "board", "shelf"]
"""By popularity. An installation may have more connectors, which these tests leave out."""
TOOL_NAMES = ["brave_search", "board"]


def add_credential(api: Api, name: str, *, organization_id: str = "", **more: Any) -> str:
    """A credential of an organization (its own), sealed; gives its id."""
    application = api.application
    request = CredentialRequest(
        organization_id=organization_id or api.organization_id,
        integration="openai",
        secret="sk-proj-0123456789abcdefWXYZ",
        name=name,
        **more,
    )
    with application.database.transaction() as connection:
        return application.credentials.add(connection, request, by=SYSTEM).id


def list_known(answer: Any) -> list[str]:
    names = [each["name"] for each in answer["integrations"]]
    return [name for name in names if name in ALL_NAMES]


def list_llms(api: Api) -> tuple[dict[str, Any], dict[str, Any]]:
    """The active and the inactive ones by name."""
    answer = api.get("/api/organizations/llms").json
    active, inactive = (
        {each["integration_name"]: each for each in answer[f"{kind}active_llms"]}
        for kind in ("", "in")
    )
    assert answer["total"] == len(active) + len(inactive) == len(LLM_NAMES)
    return active, inactive


def set_price(api: Api, **body: Any) -> Any:
    """What comes of the operator's new price for gpt-5.4."""
    full = {"integration": "openai", "model": "gpt-5.4", "rates": {"input": "9.000000001"}, **body}
    return api.post("/api/platform/prices", full, key=OPERATOR_KEY)


def test_openai_is_shown_with_all_that_a_page_needs(shared_api: Api) -> None:
    openai = shared_api.get("/api/integrations/openai").json
    assert openai == shared_api.get("/api/integrations/llm-providers/openai").json
    assert (openai["name"], openai["display_name"]) == ("openai", "OpenAI")
    assert openai["integration_type"] == "llm_provider"
    assert openai["docs_url"] == "https://platform.openai.com/docs"
    assert openai["default_model"] == "gpt-4.1"
    assert openai["extra_metadata"]["status"] == "active"
    assert "actions" not in openai
    [schema] = openai["auth_schemas"]
    assert schema["auth_type"] == "api_key"
    api_key, base_url = schema["setup_environment_variables"]
    assert api_key["pattern"] == r"^sk-[a-zA-Z0-9\-_]{20,}$"
    assert (base_url["required"], base_url["default"]) == (False, "https://api.openai.com/v1")
    assert schema["test_endpoint"]["headers"]["Authorization"] == "Bearer {api_key}"
    assert schema["test_endpoint"]["success_indicators"] == {
        "status_codes": [200],
        "response_fields": ["id", "choices", "model"],
    }


def test_model_is_shown_with_the_prices_that_are_charged(shared_api: Api) -> None:
    openai = shared_api.get("/api/integrations/openai").json
    model = next(each for each in openai["models"] if each["id"] == "gpt-5.4")
    assert (model["max_input_tokens"], model["max_output_tokens"]) == (1_050_000, 128_000)
    assert (model["input_price_per_1m"], model["output_price_per_1m"]) == ("2.5", "15")
    assert (model["supports_vision"], model["data_freshness"]) == (True, "2025-08-31")
    assert model["body_extra"] == {"model": "gpt-5.4"}
    assert model["pricing"]["price_id"].startswith("openai/gpt-5.4@2026-")
    first, second = model["pricing"]["tiers"][:2]
    assert (first["tier"], first["above_input_tokens"]) == ("default", None)
    assert (second["above_input_tokens"], second["rates"]["input"]) == (272_000, "5")
    assert first["rates"]["cached_input"] == "0.25"
    assert first["tool_calls"]["web_search_call"] == "0.01"
    assert {each["tier"] for each in model["pricing"]["tiers"]} == {
        *("default", "batch", "flex", "priority", "fast")
    }
    nano = next(each for each in openai["models"] if each["id"] == "gpt-5.4-nano")
    assert nano["display_name"] == "GPT 5 nano"
    embedding = next(each for each in openai["models"] if each["dimensions"] == 3_072)
    assert (embedding["id"], embedding["max_output_tokens"]) == ("text-embedding-3-large", 0)
    assert embedding["output_price_per_1m"] == "0"
    unknown = next(each for each in openai["models"] if each["id"] == "gpt-5.2")
    assert unknown["max_output_tokens"] is None


def test_tools_and_knowledge_providers_have_actions_and_no_models(shared_api: Api) -> None:
    for kind, name, action, names in (
        ("tools", "board", "post_card", TOOL_NAMES),
        ("knowledge-providers", "shelf", "search", ["shelf"]),
    ):
        listed = shared_api.get(f"/api/integrations/{kind}").json
        assert list_known(listed) == names
        detail = shared_api.get(f"/api/integrations/{kind}/{name}").json
        assert detail == shared_api.get(f"/api/integrations/{name}").json
        assert detail in listed["integrations"]
        assert listed["total"] == len(listed["integrations"])
        assert [each["name"] for each in detail["actions"]] == [action]
        assert "models" not in detail
        assert "default_model" not in detail


def test_unknown_integration_and_one_of_another_type_are_the_same_404(shared_api: Api) -> None:
    answers = {
        (answer.status, answer.text)
        for path in ("nobody", "tools/openai", "llm-providers/board", "knowledge-providers/x")
        for answer in [shared_api.get(f"/api/integrations/{path}")]
    }
    assert answers == {(404, '{"detail":"Not found.","code":"not_found"}')}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ALL_NAMES),
        ("type=llm_provider", LLM_NAMES),
        ("category=work", ["board"]),
        ("auth_type=bearer_token", ["board"]),
        ("search=GPT-5.4-MINI", ["openai", "azure_openai"]),
        ("search=passages", ["shelf"]),
        ("search=%25", []),
        ("search=a&type=tool", TOOL_NAMES),
    ],
)
def test_browsing_filters(shared_api: Api, query: str, names: list[str]) -> None:
    answer = shared_api.get(f"/api/integrations/browse?{query}").json
    assert list_known(answer) == names
    assert answer["total"] == len(answer["integrations"])
    assert (answer["has_more"], answer["page_size"]) == (False, 20)
    assert all("auth_schemas" not in each for each in answer["integrations"])


def test_pages_of_browsing_are_the_whole_list_in_pieces(shared_api: Api) -> None:
    whole = shared_api.get("/api/integrations/browse?page_size=100").json["integrations"]
    found: list[Any] = []
    for page in range(1, len(whole) // 3 + 3):
        answer = shared_api.get(f"/api/integrations/browse?page_size=3&page={page}").json
        found += answer["integrations"]
        assert (answer["total"], answer["page_size"]) == (len(whole), 3)
        assert answer["has_more"] is (len(found) < len(whole))
    assert found == whole


def test_browsing_with_details_shows_what_each_address_shows(shared_api: Api) -> None:
    answer = shared_api.get("/api/integrations/browse?include_details=true&type=tool").json
    assert list_known(answer) == TOOL_NAMES
    for each in answer["integrations"]:
        assert each == shared_api.get(f"/api/integrations/{each['name']}").json


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page_size=101", "page_size"),
        ("page_size=0", "page_size"),
        ("page=0", "page"),
        ("page=x", "page"),
        ("type=llm", "type"),
        ("search=", "search"),
        ("include_details=maybe", "include_details"),
        ("limit=5", "limit"),
    ],
)
def test_invalid_query_is_rejected(shared_api: Api, query: str, field: str) -> None:
    answer = shared_api.get(f"/api/integrations/browse?{query}")
    assert answer.fields_at_fault == [["query", field]]


def test_inference_key_does_not_see_the_catalog(shared_api: Api) -> None:
    for path in ("/api/integrations/browse", "/api/organizations/llms", VISIBILITY):
        assert shared_api.get(path, key=shared_api.own.live_key).status == 403


def test_credential_makes_a_provider_active(api: Api) -> None:
    active, inactive = list_llms(api)
    assert (list(active), list(inactive)) == ([], LLM_NAMES)
    assert inactive["openai"]["default_credential_display_name"] is None
    add_credential(api, "theirs", organization_id=api.other.organization_id)
    add_credential(api, "old", expires_at=api.application.clock.now() + 0.05)
    first = add_credential(api, "first", is_default=True)
    add_credential(api, "second")
    active, inactive = list_llms(api)
    assert (list(active), list(inactive)) == (["openai"], LLM_NAMES[1:])
    assert active["openai"]["default_credential_display_name"] == "first"
    assert active["openai"]["default_credential_id"] == first
    assert active["openai"]["provider_id"] == "openai"


def test_newest_credential_is_taken_where_none_is_the_default(api: Api) -> None:
    for name in ("first", "second"):
        add_credential(api, name)
    active, _ = list_llms(api)
    assert active["openai"]["default_credential_display_name"] == "second"


def test_hidden_models_are_missing_from_the_organizations_list(api: Api) -> None:
    body = {"llm_model_visibility": {"gpt-5.5-pro": False, "gpt-5.4": True}}
    saved = api.put(VISIBILITY, body)
    assert saved.json == {**body, "version": 1}
    assert api.get(VISIBILITY).json == saved.json
    _, inactive = list_llms(api)
    shown = [model["id"] for model in inactive["openai"]["models"]]
    assert "gpt-5.5-pro" not in shown
    assert "gpt-5.4" in shown
    elsewhere = {"key": api.other.key, "organization": api.other.organization_id}
    assert api.get(VISIBILITY, **elsewhere).json == {"llm_model_visibility": {}, "version": 0}
    assert ("llm_model_visibility.changed", api.organization_id) in api.audited()
    outdated = api.put(VISIBILITY, body, headers={"if-match": '"0"'})
    assert outdated.status == 412


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, ["body", "llm_model_visibility"]),
        ({"llm_model_visibility": []}, ["body", "llm_model_visibility"]),
        ({"llm_model_visibility": {"gpt-5.4": "no"}}, ["body", "llm_model_visibility", "gpt-5.4"]),
        ({"llm_model_visibility": {"gpt-99": False}}, ["body", "llm_model_visibility"]),
        ({"llm_model_visibility": {}, "more": 1}, ["body", "more"]),
    ],
)
def test_invalid_visibility_is_rejected(shared_api: Api, body: Any, path: list[str]) -> None:
    assert shared_api.put(VISIBILITY, body).fields_at_fault == [path]
    assert shared_api.get(VISIBILITY).json["version"] == 0


def test_default_model_is_set_with_a_credential_and_removed(api: Api) -> None:
    assert api.get(COMPOSER).json == {"composer_llm": None, "version": 0}
    choice = {**CHOICE, "credential_id": add_credential(api, "mine")}
    saved = api.put(COMPOSER, {"composer_llm": choice})
    assert saved.json == {"composer_llm": choice, "version": 1}
    assert saved.headers["etag"] == '"1"'
    assert api.get(COMPOSER).json == saved.json
    assert api.put(COMPOSER, {"composer_llm": None}).json["composer_llm"] is None


@pytest.mark.parametrize(
    ("chosen", "path"),
    [
        ("gpt-4.1", []),
        ({**CHOICE, "integration_name": "board"}, ["integration_name"]),
        ({**CHOICE, "provider_id": "azure"}, ["provider_id"]),
        ({**CHOICE, "model_id": ""}, ["model_id"]),
        ({**CHOICE, "credential_id": "cred_unknown"}, ["credential_id"]),
        ({**CHOICE, "temperature": 0.5}, ["temperature"]),
        ({"integration_name": "openai", "provider_id": "openai"}, ["model_id"]),
    ],
)
def test_invalid_default_model_is_rejected(shared_api: Api, chosen: Any, path: list[str]) -> None:
    answer = shared_api.put(COMPOSER, {"composer_llm": chosen})
    assert answer.fields_at_fault == [["body", "composer_llm", *path]]
    assert shared_api.get(COMPOSER).json["composer_llm"] is None


def test_credential_of_another_organization_cannot_be_the_default(api: Api) -> None:
    theirs = add_credential(api, "theirs", organization_id=api.other.organization_id)
    answer = api.put(COMPOSER, {"composer_llm": {**CHOICE, "credential_id": theirs}})
    assert answer.fields_at_fault == [["body", "composer_llm", "credential_id"]]
    assert theirs not in answer.text


def test_price_of_the_operator_is_in_force_at_once(api: Api) -> None:
    made = set_price(api)
    assert made.status == 201
    assert (made.json["state"], made.json["source"]) == ("in_force", "operator")
    assert made.json["rates"] == {"input": "9.000000001"}
    assert (made.json["number"], made.json["created_by"]) == (1, "key_operator")
    openai = api.get("/api/integrations/openai").json
    model = next(each for each in openai["models"] if each["id"] == "gpt-5.4")
    assert model["input_price_per_1m"] == "9.000000001"
    assert model["output_price_per_1m"] is None
    assert model["pricing"]["price_id"].endswith("+1")
    assert ("price.added", "openai/gpt-5.4+1") in api.audited()


def test_history_of_a_price_is_listed(api: Api) -> None:
    path = "/api/platform/prices?integration=openai&model=gpt-5.4&tier=default"
    set_price(api)
    set_price(api, effective_from="2027-02-01T00:00:00+01:00")
    page = api.get(path, key=OPERATOR_KEY).json
    states = [(each["state"], each["above_input_tokens"]) for each in page["prices"]]
    assert states == [("future", None), ("in_force", None), ("in_force", 272_000)]
    assert page["prices"][0]["effective_from"] == "2027-01-31T23:00:00Z"
    whole = api.get(f"{path}&history=true&limit=1&offset=2", key=OPERATOR_KEY).json
    assert whole["total"] == 4
    [shipped] = whole["prices"]
    assert (shipped["state"], shipped["number"], shipped["created_at"]) == ("over", None, None)
    assert shipped["rates"] == {"input": "2.5", "cached_input": "0.25", "output": "15"}


def test_only_the_operator_sets_prices(shared_api: Api) -> None:
    body: dict[str, Any] = {"integration": "openai", "model": "gpt-5.4", "rates": {}}
    assert shared_api.post("/api/platform/prices", body).status == 403
    assert shared_api.get("/api/platform/prices").status == 403


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"integration": "board"}, ["integration"]),
        ({"model": "gpt-5.6"}, ["model"]),
        ({"model": "a b"}, ["model"]),
        ({"tier": "Flex"}, ["tier"]),
        ({"above_input_tokens": 0}, ["above_input_tokens"]),
        ({"currency": "EUR"}, ["currency"]),
        ({"effective_from": "2026-01-01T00:00:00Z"}, ["effective_from"]),
        ({"effective_from": "2099-01-01T00:00:00Z"}, ["effective_from"]),
        ({"effective_from": "tomorrow"}, ["effective_from"]),
        ({"rates": {"input": 2.5}}, ["rates", "input"]),
        ({"rates": {"input": "-1"}}, ["rates", "input"]),
        ({"rates": {"input": "1e3"}}, ["rates", "input"]),
        ({"rates": {"input": "0.0000000001"}}, ["rates", "input"]),
        ({"rates": {"inputs": "1"}}, ["rates", "inputs"]),
        (
            {"rates": {"tool_calls": {"web_search_call": "free"}}},
            ["rates", "tool_calls", "web_search_call"],
        ),
        ({"model": "*"}, ["rates"]),
        ({"source": "me"}, ["source"]),
    ],
)
def test_invalid_price_is_rejected_with_its_path(
    shared_api: Api, changes: dict[str, Any], path: list[str]
) -> None:
    assert set_price(shared_api, **changes).fields_at_fault == [["body", *path]]
    listed = shared_api.get("/api/platform/prices?source=operator", key=OPERATOR_KEY)
    assert listed.json["total"] == 0


def test_names_of_modulexs_sdk_are_accepted_where_they_mean_the_same(shared_api: Api) -> None:
    browse = "/api/integrations/browse?include_details=true&page=1"
    paged = shared_api.get(f"{browse}&paginate=true&page_size=1").json
    assert (len(paged["integrations"]), paged["has_more"]) == (1, True)
    whole = shared_api.get(f"{browse}&paginate=false&page_size=1").json
    assert len(whole["integrations"]) == whole["total"] == whole["page_size"] == paged["total"]
    assert (whole["page"], whole["has_more"]) == (1, False)
    providers = "/api/integrations/llm-providers"
    chosen = shared_api.get(f"{providers}?category=audio").json
    assert [each["name"] for each in chosen["integrations"]] == ["openai", "azure_openai", "groq"]
    assert chosen["total"] == 3 < shared_api.get(providers).json["total"]
    for kind in ("tools", "knowledge-providers"):
        assert shared_api.get(f"/api/integrations/{kind}?category=none").json["total"] == 0
