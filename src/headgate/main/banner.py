"""What a person at a terminal reads after the start: what to type next."""

from __future__ import annotations

import asyncio
import sys

import uvicorn

from headgate.kit.settings import Settings

TEMPLATE = """
  Headgate listens on {address}
    OpenAI base URL   {address}/v1
    keys              {keys}{first}
    provider          {provider}
    metrics           {address}/metrics

  Try it:
    KEY=$(python3 -c "import json; print(json.load(open('{keys}'))['inference_key'])")
    curl {address}/v1/chat/completions -H "Authorization: Bearer $KEY" \\
      -H 'Content-Type: application/json' \\
      -d '{{"model": "gpt-5.4-mini", "messages": [{{"role": "user", "content": "Hello"}}]}}'

"""


async def show(server: uvicorn.Server, settings: Settings, *, is_first: bool) -> None:
    """Wait for the server to listen, then say it."""
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it by this flag only
        await asyncio.sleep(0.02)
    scheme = "https" if settings.ssl_certfile else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    sys.stderr.write(
        TEMPLATE.format(
            address=f"{scheme}://{host}:{settings.port}",
            keys=settings.data / "first-keys.json",
            first=" (just made)" if is_first else "",
            provider=describe_provider(settings),
        )
    )
    sys.stderr.flush()


def describe_provider(settings: Settings) -> str:
    """Who answers the calls, in a few words."""
    if settings.openai_api_key:
        return settings.openai_base_url or "api.openai.com, with OPENAI_API_KEY"
    if settings.simulator:
        return "the built-in simulator (set OPENAI_API_KEY for the real one)"
    return "none yet: headgate credentials add openai"
