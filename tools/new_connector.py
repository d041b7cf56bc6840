"""Make the folder of a new connector, with tests: `make new-connector NAME=some_service`.

It makes the connector, its entry in the catalog and its tests: one action that works, whose names,
address and fields are then replaced by those of the service.
"""

from __future__ import annotations

import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
LAYER = re.compile(r"^    openai \| [a-z0-9_ |]*[a-z0-9_]$", re.MULTILINE)
"""The line of the connectors in `.importlinter`."""
CONNECTORS = "src/headgate/connectors"

MANIFEST = """name = "{name}"
display_name = "{title}"
description = "What {title} is for, in one sentence."
integration = "{name}"
"""

PACKAGE = '''"""Call {title}."""
'''

ACTIONS = '''"""Actions of {title}."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headgate.connectors.model.action import ActionContext, Actions
from headgate.connectors.model.answers import read_object

SERVICE = "{title}"
NAME = "find-things"

ACTIONS = Actions("{name}")


class FindThingsInput(msgspec.Struct, frozen=True, kw_only=True):
    query: Annotated[
        str, Meta(title="Query", description="What to look for.", min_length=1, max_length=400)
    ]
    limit: Annotated[
        int, Meta(title="Limit", description="How many things to return.", ge=1, le=100)
    ] = 10


class FoundThings(msgspec.Struct, frozen=True, kw_only=True):
    things: Annotated[list[dict[str, Any]], Meta(description="What was found.")]


@ACTIONS.declare(NAME, title="Find things", is_read_only=True, is_idempotent=True)
async def find_things(context: ActionContext, given: FindThingsInput) -> FoundThings:
    """Find things by a query."""
    answer = await context.http.send(
        context.caller,
        ACTIONS.connector,
        NAME,
        "GET",
        "/things",
        query={{"q": given.query, "limit": str(given.limit)}},
        credential=context.connection,
        timeout_seconds=context.timeout_seconds,
    )
    body = read_object(answer, SERVICE)
    return FoundThings(things=body.get("things", []))
'''

CATALOG = """name = "{name}"
display_name = "{title}"
description = "What {title} is for, in one sentence."
version = "1.0.0"
docs_url = "https://{host}/docs"
categories = ["tools"]
integration_type = "tool"

[extra_metadata]
status = "beta"
created_at = {today}
updated_at = {today}

[[auth_schema]]
auth_type = "api_key"
display_name = "API key"
description = "A key of {title}."
setup_instructions = ["Create a key in the settings of {title}.", "Paste it here."]
headers = {{ Authorization = "Bearer {{api_key}}" }}

[[auth_schema.variable]]
name = "api_key"
display_name = "API key"
description = "A key of {title}."
pattern = '^\\S{{8,}}$'

[[auth_schema.variable]]
name = "base_url"
display_name = "Base URL"
description = "Where calls are sent."
required = false
sensitive = false
pattern = '^https?://.*'
default = "https://{host}/v1"

[auth_schema.test_endpoint]
url = "{{base_url}}/things?limit=1"
method = "GET"
success_indicators = {{ status_codes = [200], response_fields = ["things"] }}
cost_level = "free"

[[action]]
name = "find_things"
display_name = "Find things"
description = "Find things by a query."
"""

TESTS = '''"""{title}: what its actions send, and what they make of the answers."""

from __future__ import annotations

import pytest

{imports}
from tests.fakes.http_actions import run_action


def test_query_is_sent_and_things_come_back() -> None:
    answer = {{"things": [{{"id": "1"}}]}}
    sent, found = run_action(ACTIONS, "find-things", {{"query": "x"}}, answer)
    assert (sent.method, sent.path, sent.query) == ("GET", "/things", {{"q": "x", "limit": "10"}})
    assert found == FoundThings(things=[{{"id": "1"}}])


def test_refusal_says_what_the_service_said() -> None:
    answer = {{"error": "No such plan."}}
    with pytest.raises(ProviderRefusedError, match="No such plan"):
        run_action(ACTIONS, "find-things", {{"query": "x"}}, answer, status=403)
'''


def list_files(name: str, today: datetime.date) -> dict[str, str]:
    """Return the files of a new connector, by their path below the repository."""
    imports = (
        f"from headgate.connectors.{name}.actions import ACTIONS, FoundThings",
        "from headgate.connectors.model.errors import ProviderRefusedError",
    )
    words = {
        "imports": "\n".join(sorted(imports)),
        "name": name,
        "title": name.replace("_", " ").title(),
        "host": f"api.{name.replace('_', '-')}.example",
        "today": today.isoformat(),
    }
    templates = {
        f"{CONNECTORS}/{name}/__init__.py": PACKAGE,
        f"{CONNECTORS}/{name}/manifest.toml": MANIFEST,
        f"{CONNECTORS}/{name}/actions.py": ACTIONS,
        f"src/headgate/catalog/data/{name}.toml": CATALOG,
        f"tests/unit/connectors/test_{name}.py": TESTS,
    }
    return {path: template.format(**words) for path, template in templates.items()}


def find_fault(name: str, root: Path) -> str | None:
    """Return why there can be no connector of this name; None where there can."""
    if not NAME.fullmatch(name):
        return "A name has 1 to 32 lower-case letters, digits and underscores: NAME=some_service."
    if (root / CONNECTORS / name).exists():
        return f"There is a connector {name} already."
    return None


def make(name: str, root: Path = ROOT) -> list[Path]:
    """Write the files of a connector, and return them. A catalog entry that is there stays."""
    made: list[Path] = []
    for path, text in list_files(name, datetime.datetime.now(datetime.UTC).date()).items():
        file = root / path
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
            made.append(file)
    _add_layer(name, root / ".importlinter")
    return made


def _add_layer(name: str, contracts: Path) -> None:
    """Put the connector beside the others in the contract of layers."""
    if contracts.exists():
        text = contracts.read_text("utf-8")
        contracts.write_text(LAYER.sub(rf"\g<0> | {name}", text, count=1), "utf-8")


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    fault = find_fault(name, ROOT)
    if fault is not None:
        print(fault)
        return 1
    for file in make(name):
        print(file.relative_to(ROOT))
    print("Next: edit these files, and run tools/check_connectors.py.")
    print("Then run tools/openapi.py and tools/reference.py, which write its pages.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
