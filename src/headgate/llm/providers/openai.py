"""OpenAI."""

from __future__ import annotations

from headgate.llm.providers.openai_endpoints import ENDPOINTS
from headgate.llm.providers.provider import HeaderRule, Provider

PROVIDER = Provider(
    name="openai",
    title="OpenAI",
    base_url="https://api.openai.com/v1",
    authorization=(b"authorization", b"Bearer "),
    organization_header=b"openai-organization",
    project_header=b"openai-project",
    request_headers=HeaderRule(
        names=frozenset(
            {
                b"accept",
                b"accept-language",
                b"content-encoding",
                b"content-type",
                b"idempotency-key",
                b"openai-beta",
                b"openai-organization",
                b"openai-project",
                b"range",
                b"user-agent",
                b"x-client-request-id",
                b"x-goog-user-project",
            }
        ),
        prefixes=(b"anthropic-", b"if-", b"x-stainless-"),
    ),
    response_headers=HeaderRule(
        names=frozenset(
            {
                b"accept-ranges",
                b"cache-control",
                b"content-disposition",
                b"content-encoding",
                b"content-language",
                b"content-range",
                b"content-type",
                b"etag",
                b"last-modified",
                b"retry-after",
                b"retry-after-ms",
                b"x-request-id",
                b"x-should-retry",
            }
        ),
        prefixes=(b"openai-", b"x-ratelimit-"),
    ),
    endpoints=ENDPOINTS,
)
