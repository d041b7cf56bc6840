"""The banner after a start: what to type next."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from pathlib import Path

import msgspec
import uvicorn

from headgate.credentials.service.credentials import ENVIRONMENT_NAME
from headgate.data_directory.leftovers import FIRST_KEYS_FILE
from headgate.main.first_start import SIMULATOR_NAME
from headgate.main.local_address import find_local_url
from headgate.relay.ports import Credential
from headgate.settings import Settings

TEMPLATE = """
  Headgate listens on {address}
    OpenAI base URL   {address}/v1
    keys              {issued}
    provider          {provider}
    API reference     {address}/docs
    metrics           {address}/metrics

  Try it:
    KEY=$({key})
    curl {address}/v1/chat/completions -H "Authorization: Bearer $KEY" \\
      -H 'Content-Type: application/json' \\
      -d '{{"model": "gpt-5.4-mini", "messages": [{{"role": "user", "content": "Hello"}}]}}'
{owner}
"""

OWNER_TEMPLATE = """
  Nobody can sign in yet. Become the owner of the first organization, and the operator:
    {headgate} init --data {data}
  or accept the one-time invitation in the file of the first keys:
    INVITATION=$({python} -c "import json; print(json.load(open('{keys}'))['owner_invitation'])")
    PASSWORD=$(head -c 18 /dev/urandom | base64); echo "Your password: $PASSWORD"
    curl {address}/api/invitations/accept -H 'Content-Type: application/json' \\
      -d '{{"token": "'"$INVITATION"'", "email": "you@example.com",
        "name": "You", "password": "'"$PASSWORD"'"}}'
"""
READ_KEY = """{python} -c "import json; print(json.load(open('{keys}'))['inference_key'])\""""
ISSUE_KEY = "{headgate} keys create --data {data}"
"""Used where there is no file of first keys, as in a restored database."""


class StartState(msgspec.Struct, frozen=True, kw_only=True):
    """Note whether this is the first start, and whether nobody can sign in yet."""

    is_first: bool = False
    is_owner_missing: bool = False


async def show_banner(
    server: uvicorn.Server,
    settings: Settings,
    start_state: StartState,
    credential: Credential | None,
) -> None:
    """Wait until the server listens, then print the banner."""
    while not server.started:  # noqa: ASYNC110 - uvicorn has this flag only
        await asyncio.sleep(0.02)
    sys.stderr.write(render(settings, start_state, credential))
    sys.stderr.flush()


def render(settings: Settings, start_state: StartState, credential: Credential | None) -> str:
    """Return the banner, with commands that work in the shell that started the server."""
    values = {
        "address": find_local_url(settings),
        "keys": str(settings.data / FIRST_KEYS_FILE),
        "data": shlex.quote(str(settings.data)),
        "python": shlex.quote(_shorten(sys.executable)),
        "headgate": find_program(sys.argv[0]),
    }
    has_first = _has_key(settings.data / FIRST_KEYS_FILE)
    first = f"{values['keys']}{' (just created)' if start_state.is_first else ''}"
    return TEMPLATE.format(
        **values,
        issued=first if has_first else "issued earlier",
        key=(READ_KEY if has_first else ISSUE_KEY).format(**values),
        provider=describe_provider(
            credential,
            values["headgate"],
            data=values["data"],
            has_key=bool(settings.openai_api_key),
        ),
        owner=OWNER_TEMPLATE.format(**values) if start_state.is_owner_missing else "",
    )


def find_program(started_as: str) -> str:
    """Return how to start this program again from here: by its file, or by a Python module."""
    if os.path.basename(started_as) == "headgate":
        return shlex.quote(_shorten(os.path.abspath(started_as)))
    return f"{shlex.quote(_shorten(sys.executable))} -m headgate.cli"


def describe_provider(
    credential: Credential | None, program: str, *, data: str, has_key: bool = False
) -> str:
    """Describe which provider answers the calls.

    `data` is the directory quoted for a shell; `has_key` says whether this start was given
    `OPENAI_API_KEY`.
    """
    if credential is None:
        return f"none yet: {program} credentials add openai --data {data}"
    if credential.name == SIMULATOR_NAME:
        return "the simulator (set OPENAI_API_KEY for the real one)"
    if credential.name == ENVIRONMENT_NAME and has_key:
        return f"{credential.origin}, with OPENAI_API_KEY"
    if credential.name == ENVIRONMENT_NAME:
        end = f"to end that: {program} credentials remove {ENVIRONMENT_NAME} --data {data}"
        return f"{credential.origin}, with the OPENAI_API_KEY of an earlier start ({end})"
    return f"{credential.origin}, with the stored credential {credential.name} ({credential.id})"


def _has_key(path: Path) -> bool:
    """Return whether the file of the first keys exists and has the inference key."""
    try:
        return '"inference_key"' in path.read_text()
    except OSError:
        return False


def _shorten(path: str) -> str:
    """Return the path relative to the working directory, if it is below that."""
    near = os.path.relpath(path)
    if near.startswith(".."):
        return path
    return near if os.sep in near else os.path.join(".", near)
