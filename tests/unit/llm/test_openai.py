from __future__ import annotations

import re
from pathlib import Path

import openai
import pytest

from headgate.llm.endpoint import Body, Pricing
from headgate.llm.providers.openai import PROVIDER
from headgate.llm.routes import RouteTable

ROUTES = RouteTable(PROVIDER.endpoints)
_CALL = re.compile(
    r'self\._(get|post|delete|put|patch|get_api_list)\(\s*(?:path_template\(\s*)?f?"(/[^"?]*)'
)


def sdk_calls() -> set[tuple[str, str]]:
    """Return method and path of every call that the official SDK makes."""
    resources = Path(openai.__file__).parent / "resources"
    calls: set[tuple[str, str]] = set()
    for source in sorted(resources.rglob("*.py")):
        text = source.read_text().split("\nclass Async")[0]
        for found in _CALL.finditer(text):
            method = found[1].upper()
            if method == "GET_API_LIST":
                own = text[found.end() :].split("self._")[0]
                method = "POST" if 'method="post"' in own else "GET"
            calls.add((method, re.sub(r"\{.*?\}", "some-Id:1", found[2])))
    return calls


def test_every_call_of_the_official_sdk_has_its_row() -> None:
    calls = sdk_calls()
    assert len(calls) > 200
    assert [call for call in sorted(calls) if ROUTES.match(*call).name == "other"] == []


@pytest.mark.parametrize(
    ("path", "name", "body"),
    [
        ("/chat/completions", "chat.completions", Body.JSON),
        ("/completions", "completions", Body.JSON),
        ("/responses", "responses", Body.JSON),
        ("/responses/compact", "responses", Body.JSON),
        ("/embeddings", "embeddings", Body.JSON),
        ("/images/generations", "images", Body.JSON),
        ("/images/edits", "images", Body.FORM),
        ("/audio/speech", "audio.speech", Body.JSON),
        ("/audio/transcriptions", "audio.transcriptions", Body.FORM),
    ],
)
def test_inference_is_priced_by_usage(path: str, name: str, body: Body) -> None:
    endpoint = ROUTES.match("POST", path)
    assert (endpoint.name, endpoint.body, endpoint.pricing) == (name, body, Pricing.USAGE)


@pytest.mark.parametrize(
    "path",
    ["/batches", "/fine_tuning/jobs", "/vector_stores", "/containers", "/videos", "/evals/e/runs",
     "/threads/runs", "/threads/t/runs", "/agents/sessions"],
)  # fmt: skip
def test_call_that_may_cost_elsewhere_has_an_unknown_price(path: str) -> None:
    assert ROUTES.match("POST", path).pricing is Pricing.UNKNOWN


def test_only_chat_and_completions_are_asked_for_usage() -> None:
    assert {e.path for e in PROVIDER.endpoints if e.asks_usage} == {
        "/chat/completions",
        "/completions",
    }


@pytest.mark.parametrize(
    "path",
    ["/realtime/client_secrets", "/realtime/sessions", "/realtime", "/realtime/calls/c/accept",
     "/live/sessions", "/chatkit/sessions"],
)  # fmt: skip
def test_endpoints_that_bypass_the_gateway_are_unsupported_with_a_reason(path: str) -> None:
    assert "past every key" in ROUTES.match("POST", path).unsupported


@pytest.mark.parametrize("path", ["/organization", "/organization/users", "/projects/p/roles"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD"])
def test_administration_is_restricted(method: str, path: str) -> None:
    assert ROUTES.match(method, path).restricted


def test_unknown_addresses_pass_at_an_unknown_price() -> None:
    endpoint = ROUTES.match("POST", "/brand/new/thing")
    assert (endpoint.name, endpoint.body, endpoint.pricing) == ("other", Body.RAW, Pricing.UNKNOWN)


PASSING = (
    "accept", "openai-beta", "openai-organization", "openai-project", "openai-safety-identifier",
    "idempotency-key", "if-none-match", "x-stainless-lang", "session-id", "x-session-id",
    "x-session-affinity", "thread-id", "traceparent", "tracestate", "baggage", "x-request-id",
    "http-referer", "x-title", "x-client-request-id", "x-custom", "anthropic-beta", "range",
    "cf-aig-metadata", "x-goog-user-project", "cache-control", "prefer", "x-codex-turn-state",
)  # fmt: skip
DENIED = (
    "authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "host", "forwarded",
    "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via", "cf-connecting-ip", "connection",
    "true-client-ip", "proxy-authorization", "proxy-connection", "x-headgate-trace", "x-vmx-user",
    "accept-encoding", "te", "trailer", "transfer-encoding", "content-length", "expect", "upgrade",
    "keep-alive", "origin", "sec-fetch-mode", "access-control-request-method", "with_underscore",
    "private-token", "set-cookie", "x-http-method-override", "x-method-override", "x-http-method",
    "x-rewrite-url",
)  # fmt: skip
PROVEN_BY_PROXIES = (
    "cf-access-jwt-assertion", "cf-access-client-id", "cf-access-client-secret",
    "x-goog-iap-jwt-assertion", "x-goog-authenticated-user-email", "x-amzn-oidc-data",
    "x-amzn-oidc-accesstoken", "x-ms-client-principal", "x-ms-client-principal-name",
    "x-ms-token-aad-access-token", "x-auth-request-access-token", "x-auth-request-email",
    "x-forwarded-access-token", "x-pomerium-jwt-assertion", "tailscale-user-login",
    "x-serverless-authorization", "x-csrf-token", "x-xsrf-token", "x-access-token", "x-id-token",
    "x-remote-user", "remote-user", "x-ssl-client-cert", "x-client-cert", "client-cert",
)  # fmt: skip


@pytest.mark.parametrize("name", PASSING)
def test_request_header_passes_unless_it_is_forbidden(name: str) -> None:
    assert not PROVIDER.request_headers.denies(name.encode())


@pytest.mark.parametrize("name", DENIED)
def test_header_of_the_connection_its_proxies_or_the_gateway_is_forbidden(name: str) -> None:
    assert PROVIDER.request_headers.denies(name.encode())


@pytest.mark.parametrize("name", PROVEN_BY_PROXIES)
def test_identity_headers_of_proxies_are_not_forwarded(name: str) -> None:
    assert PROVIDER.request_headers.denies(name.encode())
    assert not PROVIDER.request_headers.denies(b"x-ms-client-request-id")


def test_only_listed_response_headers_pass() -> None:
    passing = [
        (b"content-type", b"x"), (b"openai-processing-ms", b"7"), (b"retry-after", b"1"),
        (b"x-ratelimit-limit-tokens", b"1"), (b"x-request-id", b"r"),
    ]  # fmt: skip
    refused = [
        (name, b"x")
        for name in (b"set-cookie", b"connection", b"transfer-encoding", b"server", b"location")
    ]
    shown = PROVIDER.response_headers.render(refused + passing)
    assert shown == b"".join(b"%b: %b\r\n" % header for header in passing)
