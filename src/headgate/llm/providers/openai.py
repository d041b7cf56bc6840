"""Describe OpenAI's API: its headers and endpoints."""

from __future__ import annotations

from headgate.llm.headers import DENIED
from headgate.llm.providers.openai_endpoints import ENDPOINTS
from headgate.llm.providers.provider import HeaderAllowlist, Provider

PROVIDER = Provider(
    request_headers=DENIED,
    response_headers=HeaderAllowlist(
        names=frozenset(
            {
                b"accept-ranges",
                b"apim-request-id",
                b"cache-control",
                b"content-disposition",
                b"content-encoding",
                b"content-language",
                b"content-range",
                b"content-type",
                b"deprecation",
                b"etag",
                b"last-modified",
                b"request-id",
                b"retry-after",
                b"retry-after-ms",
                b"server-timing",
                b"sunset",
                b"traceresponse",
                b"x-models-etag",
                b"x-reasoning-included",
                b"x-request-id",
                b"x-session-id",
                b"x-should-retry",
            }
        ),
        prefixes=(
            b"anthropic-",
            b"azureml-",
            b"openai-",
            b"ratelimit-",
            b"x-codex-",
            b"x-groq-",
            b"x-ms-",
            b"x-openai-",
            b"x-ratelimit-",
        ),
    ),
    endpoints=ENDPOINTS,
)
