"""A call's credential, wire id and price are of the same integration."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

import msgspec
import pytest
from msgspec.structs import replace

from headgate.catalog.model.manifest import IntegrationManifest
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.store.files import read_manifests
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Origin
from headgate.kit.rate_limiter import RateLimiter
from headgate.llm.request import JsonRequest
from headgate.llm.usage import ParsedUsage, Usage
from headgate.relay.admission import Admission, ModelOutOfScopeError
from headgate.relay.breaker import Breakers
from headgate.relay.call import Call
from headgate.relay.call_state import CallState
from headgate.relay.concurrency import ConcurrencyLimiter
from headgate.relay.ports import Credential, Grant, ManagedModelRoute
from headgate.relay.pricing import price_call
from headgate.relay.routing import ModelNotFoundError, Routing
from tests.fakes.pipeline import (
    CREDENTIAL,
    GRANT,
    FakeCaller,
    FakeManagedModelRoutes,
    ManualClock,
    make_call,
)

PROVIDER = """
name = "{name}"
display_name = "{name}"
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
default = "https://api.{name}.example/v1"
"""
MODEL = """
[[model]]
id = "{model}"
display_name = "{model}"
wire_id = "{wire}"

[[price]]
model = "{model}"
effective_from = 2026-06-01
source = "https://{name}.example/pricing"
input = "{dollars}"
"""


def write(name: str, dollars: int, *models: str) -> IntegrationManifest:
    written = [
        MODEL.format(name=name, model=model, wire=f"{model}-at-{name}", dollars=dollars)
        for model in models
    ]
    text = PROVIDER.format(name=name) + "".join(written)
    return msgspec.convert(tomllib.loads(text), IntegrationManifest)


CATALOG = Catalog(
    [
        *read_manifests(),
        write("acme", 7, "acme-large", "gpt-5.4", "shared"),
        write("beta", 9, "shared", "vendor/deep"),
    ]
)
HEADERS = [(b"content-type", b"application/json")]


def make_credential(integration: str, *, managed: bool = False) -> Credential:
    return replace(
        CREDENTIAL,
        id=f"cred_{integration}",
        name=integration.title(),
        integration=integration,
        managed=managed,
        origin=Origin("https", f"api.{integration}.example", 443),
        secret=f"sk-{integration}".encode(),
    )


class NoCredentialError(HeadgateError):
    kind = Kind.UNSUPPORTED
    code = "credential_missing"


class SeveralCredentials:
    """Hold an organization's credentials, one for each integration."""

    def __init__(self, *integrations: str, managed: bool = False) -> None:
        self.known: Mapping[str, Credential] = {
            name: make_credential(name, managed=managed) for name in integrations
        }

    def resolve(
        self,
        organization_id: str,
        *,
        integration: str,
        name: str | None,
        model: str | None = None,
        is_free: bool = False,
    ) -> Credential:
        credential = self.known.get(integration)
        if credential is None or name not in (None, credential.name):
            raise NoCredentialError(f"There is no {integration} credential.")
        return credential

    def find_integration(self, organization_id: str, name: str, preferred: str) -> str:
        return next((each for each in self.known if each.title() == name), preferred)

    def has_any(self, organization_id: str, integration: str) -> bool:
        return integration in self.known

    def peek(self, organization_id: str, integration: str) -> Credential | None:
        return self.known.get(integration)


ALL = SeveralCredentials("openai", "acme", "beta")


def plan(
    model: str,
    *,
    credentials: SeveralCredentials = ALL,
    name: str | None = None,
    grant: Grant = GRANT,
    managed_routes: FakeManagedModelRoutes | None = None,
) -> CallState:
    call = make_call(body=b'{"model":"%b","messages":[]}' % model.encode(), grant=grant)
    return plan_call(replace(call, credential_name=name), credentials, managed_routes)


def plan_call(
    call: Call,
    credentials: SeveralCredentials = ALL,
    managed_routes: FakeManagedModelRoutes | None = None,
) -> CallState:
    clock = ManualClock()
    Admission(RateLimiter(clock), ConcurrencyLimiter(8, lag_seconds_max=1.0), CATALOG).admit(
        call, FakeCaller()
    )
    state = CallState(call, ParsedUsage())
    Routing(credentials, CATALOG, Breakers(clock), managed_routes).plan(state)
    return state


def describe(state: CallState) -> tuple[str, str, str | None]:
    """Return the integration of the credential, the id that the provider gets, and the price."""
    assert state.credential is not None
    assert isinstance(state.body, JsonRequest)
    assert state.body.model is not None
    state.attempts, state.outcome = 1, "completed"
    state.parsed_usage.usage = Usage(input_tokens=1_000_000)
    state.parsed_usage.model = state.parsed_usage.model or state.body.model
    charge = price_call(state, CATALOG, ManualClock().now())
    return state.credential.integration, state.body.model, charge.price_id


ACME_LARGE = ("acme", "acme-large-at-acme", "acme/acme-large@2026-06-01")
ACME_GPT = ("acme", "gpt-5.4-at-acme", "acme/gpt-5.4@2026-06-01")


@pytest.mark.parametrize(
    ("model", "name", "expected"),
    [
        ("acme-large", None, ACME_LARGE),
        ("acme/acme-large", None, ACME_LARGE),
        ("acme-large", "Acme", ACME_LARGE),
        ("acme/acme-large", "Acme", ACME_LARGE),
        ("acme/gpt-5.4", None, ACME_GPT),
        ("gpt-5.4", "Acme", ACME_GPT),
        ("vendor/deep", None, ("beta", "vendor/deep-at-beta", "beta/vendor/deep@2026-06-01")),
        ("acme-large-2026-08-01", None, ("acme", "acme-large-2026-08-01", ACME_LARGE[2])),
        ("acme/unheard-of", None, ("acme", "unheard-of", None)),
        ("unheard-of", "Acme", ("acme", "unheard-of", None)),
        ("vendor/unheard-of", "Beta", ("beta", "vendor/unheard-of", None)),
        ("unheard-of", None, ("openai", "unheard-of", None)),
        ("vendor/unheard-of", None, ("openai", "vendor/unheard-of", None)),
        ("acme/", None, ("openai", "acme/", None)),
        ("shared", None, ("acme", "shared-at-acme", "acme/shared@2026-06-01")),
        ("shared", "Beta", ("beta", "shared-at-beta", "beta/shared@2026-06-01")),
        # What the other integration calls so is asked of the credential that was named.
        ("acme-large", "Openai", ("openai", "acme-large", None)),
    ],
)
def test_key_wire_id_and_price_are_of_one_integration(
    model: str, name: str | None, expected: tuple[str, str, str | None]
) -> None:
    assert describe(plan(model, name=name)) == expected


@pytest.mark.parametrize("model", ["gpt-5.4", "openai/gpt-5.4"])
def test_bare_id_of_two_integrations_means_openai(model: str) -> None:
    integration, told, price_id = describe(plan(model))
    assert (integration, told) == ("openai", "gpt-5.4")
    assert price_id is not None
    assert price_id.startswith("openai/gpt-5.4@")
    with pytest.raises(NoCredentialError, match="openai"):
        plan(model, credentials=SeveralCredentials("acme"))


def test_bare_id_of_several_own_integrations_goes_where_there_is_a_credential() -> None:
    only_beta = SeveralCredentials("beta")
    expected = ("beta", "shared-at-beta", "beta/shared@2026-06-01")
    assert describe(plan("shared", credentials=only_beta)) == expected
    with pytest.raises(NoCredentialError, match="acme"):
        plan("acme-large", credentials=only_beta)


def test_custom_base_url_keeps_ids_that_look_qualified() -> None:
    """Routers and local servers have models such as `openai/gpt-oss-120b`."""
    credentials = SeveralCredentials("openai")
    elsewhere = replace(credentials.known["openai"], has_integration_address=False)
    credentials.known = {"openai": elsewhere}
    for model in ("openai/gpt-oss-120b", "openai/gpt-5.4"):
        state = plan(model, credentials=credentials)
        assert state.body is state.call.body


def test_credential_of_a_tool_serves_no_model() -> None:
    credentials = SeveralCredentials("openai", "board")
    with pytest.raises(NoCredentialError, match="openai"):
        plan("gpt-5.4", credentials=credentials, name="Board")


def test_answer_that_names_another_integrations_model_is_priced_by_its_own() -> None:
    state = plan("acme-large")
    state.parsed_usage.model = "gpt-5.4-pro"
    assert describe(state) == ACME_LARGE


@pytest.mark.parametrize(
    ("patterns", "model", "name"),
    [
        ("acme-large", "acme/acme-large", None),
        ("acme/acme-large", "acme-large", None),
        ("acme/*", "acme-large", None),
        ("acme/*", "gpt-5.4", "Acme"),
        ("acme/gpt-5.4", "acme/gpt-5.4", None),
        ("openai/gpt-5*", "gpt-5.4", None),
        ("gpt-5*", "openai/gpt-5.4", None),
        ("*", "unheard-of", "Acme"),
    ],
)
def test_scope_of_a_key_holds_for_every_spelling(
    patterns: str, model: str, name: str | None
) -> None:
    if name is not None:
        patterns = f"{patterns},{model}"
    grant = replace(GRANT, models=tuple(patterns.split(",")))
    assert plan(model, name=name, grant=grant).credential is not None


@pytest.mark.parametrize(
    ("patterns", "model", "name"),
    [
        ("gpt-5.4", "acme/gpt-5.4", None),
        ("gpt-5.4", "gpt-5.4", "Acme"),
        ("acme/gpt-5.4", "gpt-5.4", None),
        ("acme-large", "beta/acme-large", None),
        ("openai/*", "acme-large", None),
        ("acme-large", "acme-large", "Openai"),
    ],
)
def test_scope_for_one_integrations_model_excludes_another_integrations(
    patterns: str, model: str, name: str | None
) -> None:
    with pytest.raises(ModelOutOfScopeError):
        plan(model, name=name, grant=replace(GRANT, models=tuple(patterns.split(","))))


PLATFORM = make_credential("acme", managed=True)
HOUSE = FakeManagedModelRoutes(
    {
        "house": ManagedModelRoute("house", "acme-large", PLATFORM),
        "gpt-5.4": ManagedModelRoute("gpt-5.4", "", PLATFORM),
    }
)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("house", ("acme", "acme-large", "acme/acme-large@2026-06-01")),
        ("gpt-5.4", ACME_GPT),
        ("acme/gpt-5.4", ACME_GPT),
    ],
)
@pytest.mark.parametrize("others", [(), ("openai",), ("acme",)])
def test_managed_model_is_served_and_priced_by_the_integration_of_its_credential(
    model: str, expected: tuple[str, str, str], others: tuple[str, ...]
) -> None:
    credentials = SeveralCredentials(*others, managed=True)
    assert describe(plan(model, credentials=credentials, managed_routes=HOUSE)) == expected


def test_managed_model_of_one_integration_is_not_served_by_another() -> None:
    credentials = SeveralCredentials("openai", managed=True)
    with pytest.raises(ModelNotFoundError):
        plan("openai/gpt-5.4", credentials=credentials, managed_routes=HOUSE)


FORM = (
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nab\r\n'
    b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\n%b\r\n--b--\r\n'
)


def test_model_of_a_form_is_renamed_and_nothing_else() -> None:
    call = make_call("/audio/transcriptions", body=FORM % b"acme/acme-large")
    call.model = "acme/acme-large"
    call.headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    state = plan_call(call)
    assert state.body == FORM % b"acme-large-at-acme"
    assert state.credential is ALL.known["acme"]
