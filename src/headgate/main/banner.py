"""What a person at a terminal reads after the start: what to type next."""

from __future__ import annotations

import asyncio
import sys

import msgspec
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
{owner}
"""

OWNER_TEMPLATE = """
  Nobody can sign in yet. Become the owner of the first organization, and the operator:
    headgate init --data {data}
  or take up the one-time invitation that lies beside the keys:
    INVITATION=$(python3 -c "import json; print(json.load(open('{keys}'))['owner_invitation'])")
    curl {address}/api/invitations/accept -H 'Content-Type: application/json' \\
      -d '{{"token": "'$INVITATION'", "email": "...", "name": "...", "password": "..."}}'
"""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What this start found: the first one of all, and whether nobody can sign in yet."""

    is_first: bool = False
    is_owner_missing: bool = False


async def show(server: uvicorn.Server, settings: Settings, situation: Situation) -> None:
    """Wait for the server to listen, then say it."""
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it by this flag only
        await asyncio.sleep(0.02)
    scheme = "https" if settings.ssl_certfile else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address, keys = f"{scheme}://{host}:{settings.port}", settings.data / "first-keys.json"
    owner = OWNER_TEMPLATE.format(address=address, keys=keys, data=settings.data)
    sys.stderr.write(
        TEMPLATE.format(
            address=address,
            keys=keys,
            first=" (just made)" if situation.is_first else "",
            provider=describe_provider(settings),
            owner=owner if situation.is_owner_missing else "",
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
